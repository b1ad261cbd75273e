"""What heads move that were ranked in several ways: typed, written as JSON, shown as a card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from corelib.core.heads import Heads
from corelib.core.html import card, rows
from corelib.core.results import Result
from corelib.core.values import Accuracy, Estimate, ModelFacts, Software, TaskFacts


@dataclass(frozen=True)
class Way:
    """One way to rank: its heads, and how many answers follow their gaze."""

    heads: Heads
    moved: Estimate
    difference: Estimate  # minus the share that the heads by the mean move, sample by sample


@dataclass(frozen=True, repr=False)
class Reductions(Result):
    """What heads move that were ranked in several ways, on the same samples."""

    schema: ClassVar[str] = "corelib/reductions/1"

    model: ModelFacts
    task: TaskFacts  # counted: questions with a rival that are answered rightly
    ranked: TaskFacts  # the samples that ranked
    fraction: float
    level: float  # of all intervals
    base: Accuracy
    ways: dict[str, Way]
    software: Software
    seconds: float

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {way.moved.value:.2f}" for name, way in self.ways.items())
        return f"Reductions({self.model.shown} on {self.task.shown}: {told})"

    def _repr_html_(self) -> str:
        table = [(name, way.heads, way.moved, way.difference) for name, way in self.ways.items()]
        title = f"ways to read RAM: {self.model.shown} on {self.task.shown}"
        return card(title, rows(table, ("way", "heads", "moved", "minus the mean's")))
