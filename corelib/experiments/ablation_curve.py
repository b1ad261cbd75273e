"""More and more heads of a ranking: removed, and, the other way round, left to see alone.

What is lost at each dose, and D50, are `fit_dose_response`; what few heads suffice for is `sufficiency`. Both compare
the ranking with layer-matched orders that keep pace with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from corelib.analysis.controls import LayerMatchedDoses
from corelib.analysis.dose_response import D50, d50, d50_ratio
from corelib.core.heads import Head, HeadSet, top_count
from corelib.experiments.answer_sweep import answer_sweep
from corelib.models.answers import AnswerScores
from corelib.models.vlm import VLM
from corelib.tasks import Task

DOSE_DRAWS = 20  # layer-matched orders for a dose curve,
KEEPING_DRAWS = 5  # and for what few heads suffice for: there every set is a pass of its own


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
        for curve in (self.core, self.reverse, *self.matched):
            yield from (one for one in curve if one is not None)


def fit_dose_response(
    found: AnswerScores, place: Mapping[HeadSet, int], curves: AblationCurves, chance: float, interval: Callable
) -> dict:
    """The dose curves, and the doses at which half of the way to chance is gone; `place` says where a set's outcomes
    are."""
    right = found.correct.double().numpy()
    doses, base = curves.doses, right[place[HeadSet()]]
    mine = {name: right[[place[one] for one in getattr(curves, name)]] for name in ("core", "reverse")}
    drawn = [[None if one is None else right[place[one]] for one in curve] for curve in curves.matched]
    known = next((k for k in range(len(doses)) if any(curve[k] is None for curve in drawn)), len(doses))
    table = {
        "doses": list(doses),
        "accuracy": {name: values.mean(1).tolist() for name, values in mine.items()},
        "layer_matched": [[None if marks is None else float(marks.mean()) for marks in curve] for curve in drawn],
        "d50": {name: _json(d50(doses, values, base, chance, interval)) for name, values in mine.items()},
    }
    if known:  # doses up to the last that has a disjoint control
        control = np.mean([curve[:known] for curve in drawn], axis=0)
        table["d50"]["layer_matched"] = _json(d50(doses[:known], control, base, chance, interval))
        table["ratio"] = _json(d50_ratio(doses[:known], mine["core"][:known], control, base, chance, interval))
    return table


def sufficiency(vlm: VLM, task: Task, curves: AblationCurves, **options) -> dict:
    """Accuracy when, after the pictures, only the first heads of an order see them: of the core order, and of
    layer-matched ones; and when none does. `options` are those of `answer_sweep`."""
    every, orders = HeadSet.all(vlm.num_layers, vlm.num_heads), [curves.core, *curves.matched[:KEEPING_DRAWS]]
    sets = list(dict.fromkeys([every, *(every - one for order in orders for one in order if one is not None)]))
    found = answer_sweep(vlm, task, sets, mode="image_knockout", **options)
    accuracy = dict(zip(sets, found.correct.double().mean(1).tolist(), strict=True))
    core, *matched = [[None if one is None else accuracy[every - one] for one in order] for order in orders]
    return {"doses": list(curves.doses), "none": accuracy[every], "core": core, "layer_matched": matched}


def _json(dose: D50) -> dict:
    """Infinite becomes null: not reached up to `largest`."""
    values = {name: getattr(dose, name) for name in ("value", "low", "high")}
    return {**{name: value if np.isfinite(value) else None for name, value in values.items()}, "largest": dose.largest}
