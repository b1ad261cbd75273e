"""Scores of all heads of one model on one task: what experiments hand to each other, as a value and as a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from corelib.core.errors import BadInput, BadResults
from corelib.core.heads import Head, HeadSet, as_head, top_count
from corelib.core.html import card, head_grid, rows
from corelib.core.results import Result, software
from corelib.core.values import Estimate, MetricFacts, ModelFacts, Reliability, Software, Table, TaskFacts


@dataclass(frozen=True)
class Interval:
    """The ends of an interval of every head's score, at one confidence level."""

    level: float
    low: Table
    high: Table


@dataclass(frozen=True, repr=False)
class HeadScores(Result):
    """Scores of all heads, with where they come from. They are an array [layer, head], and know their heads:

    np.asarray(scores)            # [layer, head]
    scores["L4H0"]                # of one head
    scores.top(0.05)              # the best 5 % of the heads that count: of all, if no window hides the evidence
    scores.estimate("L4H0")       # with its interval

    >>> from corelib import atlas
    >>> scores = atlas.cell("mini-s", "scenes").scores()
    >>> best = scores.order()[0]
    >>> scores.shape, scores[best] == float(np.asarray(scores).max())
    ((6, 8), True)
    """

    schema: ClassVar[str] = "corelib/head-scores/2"

    model: ModelFacts
    task: TaskFacts
    metric: MetricFacts
    values: Annotated[Table, Field(alias="scores")]
    interval: Interval
    chance: float | None = None  # of a head that looks at every visible key alike
    reliability: Reliability | None = None
    software: Software = field(default_factory=software)
    seconds: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", self._table("scores", self.values))
        low, high = (self._table(name, getattr(self.interval, name)) for name in ("low", "high"))
        object.__setattr__(self, "interval", Interval(self.interval.level, low, high))
        if (np.array(low) > np.array(high)).any():
            raise BadResults("head scores: an interval's low end lies above its high end")
        if not self.layers or not set(self.layers) <= set(range(self.model.num_layers)):
            raise BadResults(f"head scores: layers {list(self.layers)} reach the evidence, of {self.model.num_layers}")

    def _table(self, name: str, table: Iterable[Iterable[float]]) -> Table:
        layers, heads = self.model.num_layers, self.model.num_heads
        try:
            rows = tuple(tuple(float(value) for value in row) for row in table)
        except (TypeError, ValueError) as error:
            raise BadResults(f"head scores: {name} is not a table of numbers [layer][head]") from error
        if len(rows) != layers or any(len(row) != heads for row in rows):
            raise BadResults(f"head scores: {name} is not [{layers}][{heads}], the size that model gives")
        if not all(math.isfinite(value) for row in rows for value in row):
            raise BadResults(f"head scores: {name} holds a value that is not finite")
        return rows

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> Float[np.ndarray, "layer head"]:
        return np.array(self.values, dtype=dtype)

    def __getitem__(self, head: Head | str | tuple[int, int]) -> float:
        """The score of one head."""
        one = self._check(head)
        return self.values[one.layer][one.index]

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, heads."""
        return self.model.num_layers, self.model.num_heads

    def estimate(self, head: Head | str | tuple[int, int]) -> Estimate:
        """The score of one head, with its interval."""
        one = self._check(head)
        return Estimate(
            *(table[one.layer][one.index] for table in (self.values, self.interval.low, self.interval.high))
        )

    def __repr__(self) -> str:
        best = ", ".join(f"{head} {self[head]:.2f}" for head in self.order()[:3])
        return f"HeadScores({self.model.shown} on {self.task.shown}, {self.metric.key}: {best}, …)"

    def _repr_html_(self) -> str:
        top = self.top()
        best = [(head, self.estimate(head)) for head in self.order()[: max(len(top), 5)][:10]]
        facts = [("chance", "–" if self.chance is None else f"{self.chance:.3f}")]
        if self.reliability is not None:
            facts.append(("split-half reliability", f"{self.reliability.whole:.3f}"))
        if self.task.accuracy is not None:
            facts.append(("accuracy of the model", f"{self.task.accuracy:.3f}"))
        title = f"{self.metric.key} of all heads: {self.model.shown} on {self.task.shown}"
        return card(
            title, head_grid(self.values, top), rows(best, ("head", f"score [{self.interval.level:.0%}]")), rows(facts)
        )

    def _check(self, head: Head | str | tuple[int, int]) -> Head:
        return next(iter(HeadSet([as_head(head)]).check(*self.shape)))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose heads count: those that reach the evidence. Heads whose sliding window ends before it cannot
        retrieve it."""
        return tuple(range(self.model.num_layers)) if self.model.reach is None else self.model.reach

    def within(self, layers: Sequence[int]) -> HeadScores:
        """The same scores, of which only heads of these layers count, and of them only those that counted before.

        Raises: BadInput if none is left.

        >>> from corelib import atlas
        >>> scores = atlas.cell("mini-s", "scenes").scores().within([1, 4])
        >>> scores.layers, len(scores.order()), len(scores.top(0.05))
        ((1, 4), 16, 1)
        """
        left = tuple(layer for layer in self.layers if layer in layers)
        if not left:
            raise BadInput(
                f"heads of layers {list(self.layers)} count in one, of {list(layers)} in the other: none in both"
            )
        reach = None if len(left) == self.model.num_layers else left
        return replace(self, model=replace(self.model, reach=reach))

    def order(self) -> list[Head]:
        """All heads that count, best first; ties go to the lower (layer, head)."""
        return [head for head in ordered(self.values) if head.layer in self.layers]

    def top(self, fraction: float = 0.05) -> HeadSet:
        """The best `ceil(fraction · heads)` of the heads that count."""
        order = self.order()
        return HeadSet(order[: top_count(fraction, len(order))])


def ordered(table: Sequence[Sequence[float]] | Float[np.ndarray, "layer head"]) -> list[Head]:
    """All heads of a table [layer][head], highest score first; ties go to the lower (layer, head).

    >>> [str(head) for head in ordered([[0.1, 0.3], [0.3, 0.0]])]
    ['L0H1', 'L1H0', 'L0H0', 'L1H1']
    """
    every = HeadSet.all(len(table), len(table[0]))
    return sorted(every, key=lambda head: (-table[head.layer][head.index], head))
