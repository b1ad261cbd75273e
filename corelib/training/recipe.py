"""A training recipe: every number a run depends on, in one TOML file that ships beside the weights."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from corelib.core.entries import check_entries
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import HeadSet
from corelib.core.model_folder import room
from corelib.mini.architecture import SIZES

RECIPES = Path(__file__).parent / "recipes"  # of the bundled models
LEAST = {
    **dict.fromkeys(("steps", "processes", "warmup_steps", "checkpoint_every", "evaluate_every"), 1),
    **dict.fromkeys(("seed", "decay_steps", "evaluate_samples"), 0),
    **dict.fromkeys(("learning_rate", "weight_decay", "caption_weight"), 0),
}
MOST_PROCESSES = 64


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW, a short warm-up, a constant rate, and a linear decay over the last `decay_steps`."""

    size: str = "mini-s"
    seed: int = 0
    curriculum: str = ""  # of `stages.py`; empty: the one that its room begins with
    begins_with: str = ""  # a bundled model of the same kind whose weights the run goes on from; empty: untrained
    renewed: bool = False  # of the bridge that it begins with, only tower and connector: the adapters are new
    unseeing: str = ""  # heads of the bridge that never see a picture, such as "L18H6 L18H7": those of rows of text
    processes: int = 2  # that share a batch, each on one thread
    dense: str = ""  # of a mini model that learns under a window: the heads that see everything, such as "L3H0 L4H1"
    window: int = 0  # keys that its other heads see, up to their own, beside the first four; 0: all
    precision: str = "bfloat16"  # of the bridge's products; "float32" is quicker where a processor has no such units
    fast: bool = False  # mini models: bfloat16 products in compiled layers, about twice as fast where both are at hand
    steps: int = 4000
    warmup_steps: int = 200
    decay_steps: int = 800
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    clip: float = 1.0
    caption_weight: float = 1.0
    batch_scale: float = 1.0  # times the pictures that the curriculum asks for
    promote_at: float = 0.85  # running accuracy at which the curriculum climbs one rung
    checkpoint_every: int = 100
    evaluate_every: int = 250
    evaluate_samples: int = 96  # of every task; 0: the run is not evaluated
    study: Mapping[str, Any] = field(default_factory=dict)  # what the book does with the model; goes into its card

    def __post_init__(self) -> None:
        check_entries("recipe", self)
        check_known("size", self.size, (*SIZES, "bridge"))
        check_known("precision", self.precision, ("bfloat16", "float32"))
        for name, number in LEAST.items():
            if getattr(self, name) < number:
                raise BadInput(f"recipe: {name} must be {number} or more, got {getattr(self, name)}")
        for name in ("batch_scale", "clip", "promote_at"):
            if getattr(self, name) <= 0:
                raise BadInput(f"recipe: {name} must be above 0, got {getattr(self, name)}")
        if self.processes > MOST_PROCESSES:
            raise BadInput(f"recipe: processes must be {MOST_PROCESSES} or fewer, got {self.processes}")
        if self.fast and self.model_kind == "bridge":
            raise BadInput("recipe: fast is for mini models; the bridge computes in bfloat16 anyway: leave it out")
        if self.begins_with and room(self.begins_with) != self.model_kind:
            raise BadInput(
                f"recipe: begins_with {self.begins_with!r}: a {self.model_kind} model goes on from a model of its kind"
            )
        if self.renewed and not (self.model_kind == "bridge" and self.begins_with):
            raise BadInput('recipe: renewed is for a bridge that begins with another: add begins_with = "bridge"')
        if self.unseeing and self.model_kind != "bridge":
            raise BadInput("recipe: unseeing names heads of the bridge; leave it out for a mini model")
        HeadSet(self.unseeing), HeadSet(self.dense)  # refused here if they are none
        if self.window < 0 or (self.dense and not self.window):
            raise BadInput(f"recipe: window={self.window}, dense={self.dense!r}: give a window of 1 key or more")
        if self.window and (self.model_kind == "bridge" or self.fast):
            raise BadInput("recipe: window is for a mini model that is not fast")

    @property
    def model_kind(self) -> str:
        """What is trained: a `mini` model, or the `bridge`."""
        return "bridge" if self.size == "bridge" else "mini"

    @property
    def curriculum_name(self) -> str:
        """The name of its curriculum."""
        return self.curriculum or self.model_kind

    def rate(self, step: int, began: int = 0) -> float:
        """The learning rate at `step`; the warm-up starts at step `began`.

        >>> recipe = Recipe(steps=1000, warmup_steps=100, decay_steps=200, learning_rate=1.0)
        >>> [round(recipe.rate(step), 2) for step in (0, 99, 500, 900, 999)]
        [0.01, 1.0, 1.0, 0.5, 0.01]
        """
        up = min(1.0, (step - began + 1) / self.warmup_steps)
        down = min(1.0, (self.steps - step) / max(1, self.decay_steps))
        return self.learning_rate * up * down

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """The recipe of a bundled model by its name, or any recipe by its path.

        Raises: BadInput if it cannot be read or has a value that is not allowed, UnknownName for an entry or a size
        that does not exist.
        """
        bundled = RECIPES / f"{path}.toml"
        path = bundled if os.path.exists(bundled) else path
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # of which broken TOML and broken UTF-8 are
            raise BadInput(f"cannot read the recipe {path}: {error}") from None
        known = [f.name for f in fields(cls)]
        for key in values:
            check_known("recipe entry", key, known)
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Every entry, as JSON."""
        return asdict(self)


def short_run(seed: int, steps: int, decay_steps: int, **more: Any) -> Recipe:
    """The recipe of a few hundred steps on one core, not evaluated: two runs side by side are quicker than two
    processes in one. `more` are its other entries.

    Raises: BadInput, UnknownName: as `Recipe`.
    """
    usual: dict[str, Any] = {"learning_rate": 1e-3, "processes": 1, "checkpoint_every": 25, "evaluate_samples": 0}
    warm, cool = max(1, steps // 10), max(1, decay_steps)
    return Recipe(seed=seed, steps=steps, warmup_steps=warm, decay_steps=cool, **usual, **more)


# Snapshots for the chapter on how heads form: when a language model is new, then every step 25 % further on.
SNAPSHOTS = tuple(sorted({0, *(round(10 * 1.25**k) for k in range(40))}))
