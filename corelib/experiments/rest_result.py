"""What was found where the heads that are not dense are limited in different ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from corelib.core.errors import BadInput
from corelib.core.heads import Heads
from corelib.core.results import Result
from corelib.core.values import Accuracy, AccuracyKept, ModelFacts, Software, TaskFacts, WindowFacts


@dataclass(frozen=True)
class Way:
    """One way to limit the rest."""

    name: str
    keys: float  # that a row of a limited head sees on average, about
    kept: AccuracyKept


@dataclass(frozen=True)
class OnPage:
    """Accuracy where the evidence is on one page."""

    page: int  # from 1
    questions: int
    dense: float
    window: float


@dataclass(frozen=True, repr=False)
class Rests(Result):
    """Ways to limit the rest, compared."""

    schema: ClassVar[str] = "corelib/rests/1"

    model: ModelFacts
    task: TaskFacts  # counted: those questions whose evidence is out of reach
    dense: Heads
    window: WindowFacts
    block: int  # keys of a block, where blocks are chosen
    level: float  # of all intervals
    base: Accuracy  # all heads dense
    ways: tuple[Way, ...]
    pages: tuple[OnPage, ...]
    software: Software
    seconds: float

    def __getitem__(self, name: str) -> Way:
        """One way, by its name.

        Raises: BadInput for a name that is none.
        """
        found = {way.name: way for way in self.ways}
        if name not in found:
            raise BadInput(f"no way {name!r}: there are {', '.join(found)}")
        return found[name]

    @property
    def gap_closed(self) -> float | None:
        """Which share of what the window loses against the best keys is kept by blocks; None if it loses nothing."""
        window, best, blocks = (self[name].kept.accuracy for name in ("window", "best keys", "blocks"))
        return None if best <= window else (blocks - window) / (best - window)
