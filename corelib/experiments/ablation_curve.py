"""More and more heads of a ranking: removed, and, the other way round, left to see alone.

What is lost at each dose, and D50, are `fit_dose_response`; what few heads suffice for is `sufficiency`. Both compare
the ranking with layer-matched orders that keep pace with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from corelib.analysis.dose_response import D50, d50, d50_ratio
from corelib.analysis.nested_controls import LayerMatchedDoses
from corelib.analysis.stats import estimate
from corelib.core.heads import Head, HeadSet, top_count
from corelib.core.values import Estimate
from corelib.experiments.answer_sweep import Resampling, answer_sweep
from corelib.models.answers import AnswerScores
from corelib.models.vlm import VLM
from corelib.tasks import Draw

DOSE_DRAWS = 20  # layer-matched orders for a dose curve,
KEEPING_DRAWS = 5  # and for what few heads suffice for: there every set is a pass of its own

DoseCurve = tuple[float | None, ...]  # accuracy at each dose; None where there is no disjoint control


@dataclass(frozen=True)
class Dose:
    """A dose of heads, or a ratio of two, with its interval; None is "not reached up to `largest`"."""

    value: float | None
    low: float | None
    high: float | None
    largest: float

    @classmethod
    def of(cls, found: D50) -> Dose:
        value, low, high = (end if np.isfinite(end) else None for end in (found.value, found.low, found.high))
        return cls(value, low, high, found.largest)


@dataclass(frozen=True)
class Orders:
    """Accuracy at each dose, the best heads removed first, or the lowest."""

    core: tuple[float, ...]
    reverse: tuple[float, ...]


@dataclass(frozen=True)
class HalfDoses:
    """The dose at which half of the way to chance is gone, in each order."""

    core: Dose
    reverse: Dose
    layer_matched: Dose | None = None  # None: no dose has a disjoint control


@dataclass(frozen=True)
class DoseResponse:
    """What is lost at each dose."""

    doses: tuple[float, ...]  # shares of all heads
    accuracy: Orders
    layer_matched: tuple[DoseCurve, ...]  # a draw each
    d50: HalfDoses
    ratio: Dose | None = None  # of D50: core to layer-matched


@dataclass(frozen=True)
class Sufficiency:
    """Accuracy when, after the pictures, only the first heads of an order see them."""

    doses: tuple[float, ...]
    none: float  # no head sees the pictures
    core: DoseCurve
    layer_matched: tuple[DoseCurve, ...]
    kept: Estimate | None = None  # with the top 5 % alone; None in results of the first round


@dataclass(frozen=True)
class AblationCurves:
    """The sets of heads of each order at each dose."""

    doses: tuple[float, ...]  # shares of all heads
    core: list[HeadSet]  # the best heads first
    reverse: list[HeadSet]
    matched: list[list[HeadSet | None]]  # a layer-matched order each; None where there is no disjoint control

    @classmethod
    def draw(
        cls, order: Sequence[Head], layers: int, heads: int, doses: Sequence[float], *, draws: int, seed: int
    ) -> AblationCurves:
        counts = [top_count(dose, len(order)) for dose in doses]
        drawn = [LayerMatchedDoses.draw(order, layers, heads, seed=seed + number) for number in range(draws)]
        return cls(
            doses=tuple(doses),
            core=[HeadSet(order[:count]) for count in counts],
            reverse=[HeadSet(order[-count:]) for count in counts],
            matched=[[one.at(count) for count in counts] for one in drawn],
        )

    def sets(self) -> Iterator[HeadSet]:
        every: Iterator[HeadSet | None] = chain(self.core, self.reverse, *self.matched)
        return (one for one in every if one is not None)


def fit_dose_response(
    found: AnswerScores, place: Mapping[HeadSet, int], curves: AblationCurves, chance: float, interval: Resampling
) -> DoseResponse:
    """The dose curves, and the doses at which half of the way to chance is gone; `place` says where a set's answers
    are."""
    right = found.correct.double().numpy()
    doses, base = curves.doses, right[place[HeadSet()]]
    core, reverse = (right[[place[one] for one in order]] for order in (curves.core, curves.reverse))
    drawn = [[None if one is None else right[place[one]] for one in curve] for curve in curves.matched]
    known = next((k for k in range(len(doses)) if any(curve[k] is None for curve in drawn)), len(doses))
    half = HalfDoses(*(Dose.of(d50(doses, values, base, chance, interval)) for values in (core, reverse)))
    ratio = None
    if known:  # doses up to the last that has a disjoint control
        control = np.mean([[marks for marks in curve[:known] if marks is not None] for curve in drawn], axis=0)
        matched = Dose.of(d50(doses[:known], control, base, chance, interval))
        half = HalfDoses(half.core, half.reverse, matched)
        ratio = Dose.of(d50_ratio(doses[:known], core[:known], control, base, chance, interval))
    return DoseResponse(
        doses=doses,
        accuracy=Orders(*(tuple(values.mean(1).tolist()) for values in (core, reverse))),
        layer_matched=tuple(
            tuple(None if marks is None else float(marks.mean()) for marks in curve) for curve in drawn
        ),
        d50=half,
        ratio=ratio,
    )


def sufficiency(
    vlm: VLM, draw: Draw, curves: AblationCurves, core: HeadSet, interval: Resampling, **options: Any
) -> Sufficiency:
    """Accuracy when, after the pictures, only the first heads of an order see them: of the core order, and of
    layer-matched ones; when only the `core` heads do, with its interval; and when none does. `options` are those of
    `answer_sweep`."""
    every = HeadSet.all(vlm.num_layers, vlm.num_heads)
    orders: list[Sequence[HeadSet | None]] = [curves.core, *curves.matched[:KEEPING_DRAWS]]
    alone = [every, every - core, *(every - one for order in orders for one in order if one is not None)]
    sets = list(dict.fromkeys(alone))
    found = answer_sweep(vlm, draw, sets, mode="image_knockout", **options)
    right = found.correct[sets.index(every - core)].double().numpy()
    accuracy = dict(zip(sets, found.correct.double().mean(1).tolist(), strict=True))
    mine, *matched = (tuple(None if one is None else accuracy[every - one] for one in order) for order in orders)
    kept = estimate(right, interval)
    return Sufficiency(curves.doses, accuracy[every], mine, tuple(matched), kept)
