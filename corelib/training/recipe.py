"""A training recipe: every number a run depends on, in one TOML file that ships beside the weights."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType

from corelib.errors import BadInput, UnknownName
from corelib.mini.architecture import SIZES


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW, a short warm-up, a constant rate, and a linear decay over the last `decay_steps`."""

    size: str = "mini-s"
    seed: int = 0
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
    promote_at: float = 0.85  # running accuracy at which the curriculum climbs one rung
    checkpoint_every: int = 100
    evaluate_every: int = 250
    evaluate_samples: int = 96

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UnknownName("size", self.size, SIZES)
        for name in ("steps", "warmup_steps", "checkpoint_every", "evaluate_every", "evaluate_samples"):
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
        try:
            values = tomllib.loads(Path(path).read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise BadInput(f"cannot read the recipe {path}: {error}") from None
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise UnknownName("recipe entry", key, known)
        return cls(**values)

    def as_dict(self) -> dict:
        return asdict(self)


# Snapshots for the chapter on how heads form: step 0, then every step 25 % further on.
SNAPSHOTS = tuple(sorted({0, *(round(10 * 1.25**k) for k in range(40))}))

# The curriculum: a ladder of difficulties for each task. The last rung is harder than the default.
LADDERS = MappingProxyType(
    {
        "scenes": tuple({"objects": n} for n in (5, 6, 8, 10, 12, 14)),
        "documents": tuple({"pages": p, "fields": f} for p, f in ((1, 4), (1, 8), (2, 4), (2, 8), (2, 10))),
        "video": tuple({"frames": f, "regulars": r} for f, r in ((2, 2), (3, 2), (4, 3), (5, 3), (6, 3))),
        "needle": tuple({"entries": n} for n in (2, 4, 8, 10)),
        "arithmetic": ({},),
    }
)
