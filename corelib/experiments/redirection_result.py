"""What moving the gaze of heads found: typed, written as JSON, shown as a card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from corelib.core.heads import Heads
from corelib.core.html import card, rows
from corelib.core.results import Result
from corelib.core.values import Accuracy, Estimate, ModelFacts, RankingFacts, Software, TaskFacts


@dataclass(frozen=True)
class Redirected:
    """What became of the answers, as shares of the questions that were answered rightly before."""

    heads: Heads
    moved: Estimate  # the answer is the other object's
    stayed: Estimate
    neither: Estimate


@dataclass(frozen=True)
class RedirectionNull:
    """Other sets of heads, with as many of each layer's key/value groups."""

    sets: tuple[Heads, ...]
    moved: tuple[float, ...]
    p: float  # how often one of them moves as many answers as the tested set: (1 + #) / (1 + sets)
    complete: bool  # are these all sets that there are?


@dataclass(frozen=True, repr=False)
class Redirection(Result):
    """Where answers go when the gaze of some heads is moved."""

    schema: ClassVar[str] = "corelib/redirection/1"

    model: ModelFacts
    task: TaskFacts  # counted: questions with a rival that are answered rightly
    ranking: RankingFacts
    strength: str
    rows: str
    level: float  # of all intervals
    pairs: int  # questions with a rival
    base: Accuracy  # of these
    core: Redirected
    complement: Redirected  # all heads but these
    doses: dict[str, Redirected]  # by number of heads, best first
    null: RedirectionNull | None  # None: there is no disjoint set
    other_strengths: dict[str, Redirected]
    other_rows: dict[str, Redirected]  # the top heads at the answer's rows alone; at one row, counted from the end
    specificity: dict[str, Redirected]  # a distractor's mass to the target; the evidence's mass to empty places
    software: Software
    seconds: float

    def __repr__(self) -> str:
        return (
            f"Redirection({self.model.shown} on {self.task.shown}: {len(self.core.heads)} heads move {self.core.moved} "
            f"of the answers, all others {self.complement.moved})"
        )

    def _repr_html_(self) -> str:
        named = {"top heads": self.core, "all others": self.complement}
        table = [(name, len(one.heads), one.moved, one.stayed, one.neither) for name, one in named.items()]
        facts: list[tuple[object, ...]] = [("answered rightly before", f"{self.task.counted} of {self.pairs}")]
        if self.null is not None:
            facts.append((f"{len(self.null.sets)} matched sets", f"at most {max(self.null.moved):.2f} moved"))
            facts.append(("p: moves as many", f"{self.null.p:.3f}"))
        title = f"redirection ({self.strength}): {self.model.shown} on {self.task.shown}"
        return card(title, rows(table, ("heads", "number", "moved", "stayed", "neither")), rows(facts))
