"""What a little training under a window tells: with these heads dense or with others, how much comes back?
`training/window_adaptation.py` measures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from corelib.core.heads import Heads
from corelib.core.results import Result
from corelib.core.values import Accuracy, AccuracyKept, ModelFacts, Software, TaskFacts, WindowFacts


@dataclass(frozen=True)
class Windowed:
    """Accuracy under a window in one task."""

    dense: Accuracy  # with all heads dense
    kept: AccuracyKept  # with few
    none: AccuracyKept  # with none


@dataclass(frozen=True, repr=False)
class WindowedRun(Result):
    """One run of one arm."""

    schema: ClassVar[str] = "corelib/windowed-run/1"

    arm: str
    seed: int
    heads: Heads  # that stayed dense
    before: dict[str, Windowed]  # by task, on `test`
    after: dict[str, Windowed]


@dataclass(frozen=True, repr=False)
class WindowAdaptation(Result):
    """The same short training under a window, with other heads dense."""

    schema: ClassVar[str] = "corelib/window-adaptation/1"

    model: ModelFacts
    task: TaskFacts  # all tasks tested apart, by one seed; the first of them
    window: WindowFacts
    steps: int
    level: float  # of all intervals
    runs: tuple[WindowedRun, ...]
    software: Software
    seconds: float

    def of(self, arm: str) -> tuple[WindowedRun, ...]:
        """The runs of one arm, by seed."""
        return tuple(run for run in self.runs if run.arm == arm)
