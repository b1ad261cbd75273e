"""What short adaptations of a language model tell: with these heads or without them, how well does it learn to see, and
which heads come to look? `training/inheritance.py` measures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from corelib.core.head_scores import ordered
from corelib.core.heads import Heads, HeadSet
from corelib.core.html import card, rows
from corelib.core.results import Result
from corelib.core.values import Accuracy, ModelFacts, Software, Table, TaskFacts


@dataclass(frozen=True, repr=False)
class AdaptedRun(Result):
    """One run of one arm."""

    schema: ClassVar[str] = "corelib/adapted-run/1"

    arm: str
    seed: int
    matched: Heads  # the set that stands beside the CoRe heads, of this seed
    curve: dict[str, tuple[float, ...]]  # by task: the share of right answers in training, a mean of every 10 steps
    accuracy: dict[str, Accuracy]  # by task, on `test`
    ram: dict[str, Table]  # by task: of every head at the end, on `select`, at the rows that predict the answer
    anywhere: dict[str, Table]  # the same at the best row of the question and the answer

    @property
    def scores(self) -> Float[np.ndarray, "layer head"]:
        """The mean over the tasks of every head's RAM at its best row."""
        found: np.ndarray = np.mean([np.asarray(table) for table in self.anywhere.values()], axis=0)
        return found

    def top(self, count: int) -> HeadSet:
        """The heads that look most at the evidence."""
        return HeadSet(ordered(self.scores)[:count])


@dataclass(frozen=True, repr=False)
class Inheritance(Result):
    """The same adaptation in several arms, each with several seeds."""

    schema: ClassVar[str] = "corelib/inheritance/1"

    model: ModelFacts
    steps: int
    tasks: dict[str, dict[str, Any]]  # the difficulty of each
    task: TaskFacts  # both tested apart, by the seed of each run; the first of them
    level: float  # of all intervals
    core: Heads  # whose part is asked for
    runs: tuple[AdaptedRun, ...]
    software: Software
    seconds: float

    def of(self, arm: str) -> tuple[AdaptedRun, ...]:
        """The runs of an arm, by seed."""
        return tuple(run for run in self.runs if run.arm == arm)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, in the order of their runs."""
        return tuple(dict.fromkeys(run.arm for run in self.runs))

    def __repr__(self) -> str:
        return f"Inheritance({self.model.shown}, {len(self.runs)} runs of {self.steps} steps: {', '.join(self.arms)})"

    def _repr_html_(self) -> str:
        table = [
            (run.arm, run.seed, *run.accuracy.values(), len(run.top(len(self.core)) & self.core)) for run in self.runs
        ]
        head = ("arm", "seed", *self.tasks, "of the CoRe heads on top")
        return card(f"short adaptations of the language model under {self.model.shown}", rows(table, head))
