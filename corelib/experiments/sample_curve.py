"""How many labelled samples does a ranking need? Heads are ranked on few of them: what of the top set is found, and
what of its function is kept?

    found = sample_curve(vlm, draw, values, ranked_on)        # values: [sample, layer, head]
    found.found[2], found.moved[2]                            # with the third of `COUNTS` samples

*Found* is the share of the top set of all samples that the top set of few samples holds; since the few are among them,
it is 1 at the end by construction. *Moved* is the share of answers that become the rival's if the gaze of the set is
moved (`redirection.py`), on samples of another split: what the set can do, and not which heads are in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from corelib.analysis.reliability import share_found, tops_of_few
from corelib.core.errors import BadInput
from corelib.core.heads import Heads
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import Curve, ModelFacts, Software, TaskFacts
from corelib.experiments.answer_sweep import compute_dtype
from corelib.experiments.redirecting import Intervention, redirect_sweep
from corelib.models.vlm import VLM
from corelib.tasks import Draw

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DRAWS = 200  # rankings of each size, for what is found,
TESTED = 5  # and of them so many for what is moved
MOSTLY = 0.9  # of the top set found,
NEARLY = 0.05  # and so little of the moved share missing: enough samples (written before a curve was measured)


@dataclass(frozen=True, repr=False)
class SampleCurve(Result):
    """What few samples find of the top set of many. Low and high are the 5th and the 95th percentile of the draws."""

    schema: ClassVar[str] = "corelib/sample-curve/1"

    model: ModelFacts
    task: TaskFacts  # tested on; counted: questions with a rival that are answered rightly
    ranked_on: TaskFacts
    fraction: float
    final: Heads  # of all samples
    counts: tuple[int, ...]
    found: Curve
    moved: Curve
    moved_by_all: float  # by the final set
    draws: tuple[int, int]  # for what is found, for what is moved
    software: Software
    seconds: float


def sample_curve(
    vlm: VLM,
    draw: Draw,
    values: Float[np.ndarray, "sample layer head"],
    ranked_on: TaskFacts,
    *,
    fraction: float = 0.05,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> SampleCurve:
    """Rank on few of the samples of `values` again and again, and move the gaze of the sets that come out.

    Raises: BadInput if the test is on the split that ranked, or no question is answered rightly.
    """
    began = time.perf_counter()
    if (draw.task.name, draw.split, draw.seed) == (ranked_on.domain, ranked_on.split, ranked_on.seed):
        raise BadInput("the heads were ranked on these samples: test on another split")
    counts = tuple(count for count in COUNTS if count <= len(values))
    tops = {count: tops_of_few(values, count, fraction=fraction, draws=DRAWS) for count in counts}
    final = tops_of_few(values, len(values), fraction=fraction, draws=1)[0]
    tested = list(dict.fromkeys([final, *(one for sets in tops.values() for one in sets[:TESTED])]))
    plan = {str(number): Intervention(one) for number, one in enumerate(tested)}
    swept = redirect_sweep(vlm, draw, plan, store=store, progress=progress)
    counted = swept["paired"] & swept["right"]
    if not counted.any():
        raise BadInput("no question with a rival is answered rightly: nothing can be moved")
    moved = {one: float(swept["moved"][counted, number].mean()) for number, one in enumerate(tested)}
    return SampleCurve(
        model=vlm.facts,
        task=draw.facts(questions=draw.questions, counted=int(counted.sum())),
        ranked_on=ranked_on,
        fraction=fraction,
        final=final,
        counts=counts,
        found=_curve([share_found(sets, final) for sets in tops.values()]),
        moved=_curve([np.array([moved[one] for one in sets[:TESTED]]) for sets in tops.values()]),
        moved_by_all=moved[final],
        draws=(DRAWS, TESTED),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def enough_samples(curves: Sequence[SampleCurve]) -> int | None:
    """The smallest number of samples that is enough in all of the curves: on average at least `MOSTLY` of the top set
    is found, and the moved share is at most `NEARLY` below that of all samples. None: there is none.

    Raises: BadInput without a curve.
    """
    if not curves:
        raise BadInput("there is no curve: give one or more")
    common = sorted(set.intersection(*(set(one.counts) for one in curves)))

    def holds(one: SampleCurve, count: int) -> bool:
        place = one.counts.index(count)
        return one.found.value[place] >= MOSTLY and one.moved.value[place] >= one.moved_by_all - NEARLY

    return next((count for count in common if all(holds(one, count) for one in curves)), None)


def _curve(draws: list[Float[np.ndarray, " draw"]]) -> Curve:
    """The mean over draws, with the 5th and the 95th percentile."""
    ends = [np.percentile(one, (5, 95)) for one in draws]
    return Curve(
        *(tuple(round(float(x), 4) for x in column) for column in ([one.mean() for one in draws], *np.transpose(ends)))
    )
