"""What a page of the explorer holds: domains, the measures of heads in each, examples, and what is told of a head.

Tables are flat in the page: head number = layer · heads + index. Numbers have four digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.core.heads import Head, top_count
from corelib.core.values import Tables
from corelib.metrics.catalogue import METRICS
from corelib.plots.explorer.examples import example_json

if TYPE_CHECKING:
    from corelib.models.attention_by_word import AttentionByWord

Json = dict[str, Any]
BINS = 20  # of a distribution over samples
TOP = 0.05  # the share of heads that is framed
NAMES = {one.key: name for name, one in METRICS.items()}


@dataclass(frozen=True)
class Measure:
    """One number of every head, with its interval: a score, or what is lost without the head.

    Raises: BadInput if the values by sample are of other heads.
    """

    name: str
    about: str  # what it was measured on, in one line
    tables: Tables
    level: float  # of the intervals
    order: Sequence[Head]  # the heads that count, best first
    chance: float | None = None  # of a head that looks at every visible key alike
    by_sample: Float[np.ndarray, "sample layer head"] | None = None
    unit: str = ""  # of what is lost without the head; a score has none

    def __post_init__(self) -> None:
        shape = np.shape(self.tables.value)
        if self.by_sample is not None and self.by_sample.shape[1:] != shape:
            raise BadInput(f"{self.name}: values by sample of {self.by_sample.shape[1:]} heads, scores of {shape}")

    @classmethod
    def of(cls, scores: HeadScores, by_sample: Float[np.ndarray, "sample layer head"] | None = None) -> Measure:
        """Head scores as a measure; the name is that of the catalogue, or the metric's own.

        >>> from corelib import atlas
        >>> Measure.of(atlas.cell("mini-s", "scenes").scores()).name
        'RAM'
        """
        metric, interval = scores.metric, scores.interval
        own = f"{metric.quantity.replace('_', ' ')}, {metric.reduce} over {metric.rows} rows"
        return cls(
            NAMES.get(metric.key, own),
            scores.task.shown,
            Tables(scores.values, interval.low, interval.high),
            interval.level,
            scores.order(),
            scores.chance,
            by_sample,
        )

    def to_json(self) -> Json:
        """As the page's script reads it."""
        heads = len(self.tables.value[0])
        found: Json = {name: _flat(getattr(self.tables, name)) for name in ("value", "low", "high")}
        found |= {"name": self.name, "about": self.about, "level": self.level, "unit": self.unit}
        found |= {"order": [head.layer * heads + head.index for head in self.order]}
        found |= {"top": top_count(TOP, len(self.order)), "chance": self.chance}
        if self.by_sample is not None:
            found["spread"] = _spread(self.by_sample)
        return found


@dataclass(frozen=True)
class Told:
    """What the book says of a head, in plain lines."""

    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Domain:
    """One task: measures of all heads in it, samples whose attention is shown, and heads of which something is told."""

    name: str
    measures: Sequence[Measure]
    examples: Sequence[AttentionByWord] = ()
    told: Mapping[Head, Told] = field(default_factory=dict)

    def to_json(self) -> Json:
        """As the page's script reads it."""
        return {
            "name": self.name,
            "measures": [one.to_json() for one in self.measures],
            "examples": [example_json(one) for one in self.examples],
            "told": {str(head): {"title": one.title, "lines": list(one.lines)} for head, one in self.told.items()},
        }


def _flat(table: Iterable[Iterable[float]]) -> list[float]:
    return [float(f"{value:.4g}") for row in table for value in row]


def _spread(by_sample: Float[np.ndarray, "sample layer head"]) -> Json:
    """How many samples fall into each of `BINS` equal parts of the range: [0, 1] if it holds all values."""
    least, most = float(by_sample.min()), float(by_sample.max())
    low, high = (0.0, 1.0) if least >= 0 and most <= 1 else (float(f"{least:.3g}"), float(f"{most:.3g}"))
    if not low < high:
        low, high = low - 0.5, high + 0.5
    flat = by_sample.reshape(len(by_sample), -1)
    place = np.clip(((flat - low) / (high - low) * BINS).astype(int), 0, BINS - 1)
    counts = [np.bincount(place[:, head], minlength=BINS).tolist() for head in range(flat.shape[1])]
    return {"low": low, "high": high, "samples": len(flat), "counts": counts}
