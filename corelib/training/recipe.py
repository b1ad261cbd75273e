"""A training recipe: every number a run depends on, in one TOML file that ships beside the weights."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType

from corelib.errors import BadInput, check_known
from corelib.mini.architecture import SIZES

RECIPES = Path(__file__).parent / "recipes"  # of the embedded models


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW, a short warm-up, a constant rate, and a linear decay over the last `decay_steps`."""

    size: str = "mini-s"
    seed: int = 0
    processes: int = 2  # that share a batch, each on one thread
    steps: int = 6000
    warmup_steps: int = 200
    decay_steps: int = 1200
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    clip: float = 1.0
    caption_weight: float = 1.0
    pictures: dict[str, int] = field(
        default_factory=lambda: {"scenes": 12, "documents": 8, "video": 8, "needle": 6, "arithmetic": 2}
    )
    questions: dict[str, int] = field(
        default_factory=lambda: {"scenes": 8, "documents": 5, "video": 7, "needle": 4, "arithmetic": 4}
    )
    seeing_steps: int = 600  # then the curriculum changes from SEEING to BINDING
    promote_at: float = 0.8  # running accuracy at which the curriculum climbs one rung
    checkpoint_every: int = 100
    evaluate_every: int = 250
    evaluate_samples: int = 96

    def __post_init__(self) -> None:
        check_known("size", self.size, SIZES)
        for name in ("steps", "processes", "warmup_steps", "checkpoint_every", "evaluate_every", "evaluate_samples"):
            if getattr(self, name) < 1:
                raise BadInput(f"recipe: {name} must be 1 or more, got {getattr(self, name)}")

    def rate(self, step: int) -> float:
        """The learning rate at `step`.

        >>> recipe = Recipe(steps=1000, warmup_steps=100, decay_steps=200, learning_rate=1.0)
        >>> [round(recipe.rate(step), 2) for step in (0, 99, 500, 900, 999)]
        [0.01, 1.0, 1.0, 0.5, 0.01]
        """
        up = min(1.0, (step + 1) / self.warmup_steps)
        down = min(1.0, (self.steps - step) / max(1, self.decay_steps))
        return self.learning_rate * up * down

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """The recipe of an embedded model by its name, or any recipe by its path."""
        embedded = RECIPES / f"{path}.toml"
        path = embedded if embedded.exists() else path
        try:
            values = tomllib.loads(Path(path).read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise BadInput(f"cannot read the recipe {path}: {error}") from None
        known = [f.name for f in fields(cls)]
        for key in values:
            check_known("recipe entry", key, known)
        return cls(**values)

    def as_dict(self) -> dict:
        return asdict(self)


# Snapshots for the chapter on how heads form: step 0, then every step 25 % further on.
SNAPSHOTS = tuple(sorted({0, *(round(10 * 1.25**k) for k in range(40))}))


@dataclass(frozen=True)
class Rung:
    """A step of the curriculum: a difficulty, and how many times the recipe's number of pictures it draws."""

    difficulty: dict
    times: int = 1


def _scenes(objects: int, side: int, times: int = 1, relational: float = 0.3) -> Rung:
    return Rung({"objects": objects, "rows": side, "columns": side, "relational": relational}, times)


def _pages(pages: int, fields: int, times: int = 1, digits: int = 3) -> Rung:
    return Rung({"pages": pages, "fields": fields, "digits": digits}, times)


def _clip(frames: int, regulars: int, side: int = 3, times: int = 1) -> Rung:
    return Rung({"frames": frames, "regulars": regulars, "rows": side, "columns": side}, times)


# The curriculum: two ladders of difficulties a task. *Seeing* begins with pictures of one visual token, many at a time:
# a model that cannot read a digit yet learns nothing from a full scene. *Binding* begins anew with pictures in which
# one attribute is not enough: easy pictures reward shortcuts. Its last rung is harder than the default difficulty.
SEEING = MappingProxyType(
    {
        "scenes": (
            _scenes(1, 1, 4), _scenes(2, 2, 4), _scenes(4, 3, 2), _scenes(6, 4, 2),
            _scenes(8, 5), _scenes(10, 6), _scenes(12, 6), _scenes(14, 6),
        ),
        "documents": (
            _pages(1, 1, 5, digits=1), _pages(1, 1, 5, digits=2), _pages(1, 2, 3), _pages(1, 4, 2),
            _pages(1, 8), _pages(2, 4), _pages(2, 8), _pages(2, 10),
        ),
        "video": (_clip(1, 1, 2, 4), _clip(2, 1, 2, 4), _clip(2, 2, 3, 2), _clip(3, 3), _clip(4, 3), _clip(6, 3)),
        "needle": tuple(Rung({"entries": n}) for n in (2, 4, 8, 10)),
        "arithmetic": (Rung({}),),
    }
)  # fmt: skip
BINDING = MappingProxyType(
    {
        "scenes": (
            _scenes(6, 4, 2, relational=0.0), _scenes(8, 5, 2, relational=0.1),
            _scenes(10, 6), _scenes(12, 6), _scenes(14, 6),
        ),
        "documents": (_pages(1, 4, 2), _pages(1, 8), _pages(2, 4), _pages(2, 8), _pages(2, 10)),
        "video": (_clip(2, 3), _clip(3, 3), _clip(4, 3), _clip(6, 3)),
        "needle": tuple(Rung({"entries": n}, 2) for n in (4, 6, 8, 10)),
        "arithmetic": (Rung({}),),
    }
)  # fmt: skip
