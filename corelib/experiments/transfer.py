"""Heads ranked in one task, tested in another: what is lost without them, and what do they keep alone?

    found = transfer(vlm, draw, {"scenes": scores, "documents": others})   # samples of one task, rankings of several
    found.rankings["documents"].lost, found.rankings["documents"].kept

All rankings are tested on the same samples. Two head sets may share few heads and do the same; this asks what they do.
Where answers go when the gaze of such heads is moved, `redirection.py` says.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from corelib.analysis.stats import bootstrap_interval, estimate
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.core.heads import Heads, HeadSet
from corelib.core.html import card, rows
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import Accuracy, AccuracyKept, ModelFacts, RankingFacts, Software, TaskFacts
from corelib.experiments.answer_sweep import answer_sweep, check_pictures, check_scores, compute_dtype
from corelib.experiments.reach import layers_in_reach
from corelib.models.vlm import VLM
from corelib.tasks import Draw


@dataclass(frozen=True)
class Transferred:
    """The top heads of one ranking, in the tested task."""

    ranking: RankingFacts
    heads: Heads
    without: AccuracyKept  # their output is zero
    alone: AccuracyKept  # no other head sees the pictures (or the text), at the rows after them


@dataclass(frozen=True, repr=False)
class Transfer(Result):
    """What the top heads of several rankings do in one task."""

    schema: ClassVar[str] = "corelib/transfer/1"

    model: ModelFacts
    task: TaskFacts
    level: float  # of all intervals
    base: Accuracy  # of the plain model
    none: Accuracy  # no head sees the pictures (or the text)
    rankings: dict[str, Transferred]  # by the name of the task that ranked
    software: Software
    seconds: float

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {one.alone}" for name, one in self.rankings.items())
        return f"Transfer({self.model.shown} on {self.task.shown}: alone, the heads of {told})"

    def _repr_html_(self) -> str:
        table = [(name, len(one.heads), one.without, one.alone) for name, one in self.rankings.items()]
        return card(
            f"heads of other tasks: {self.model.shown} on {self.task.shown}",
            rows(table, ("ranked on", "heads", "accuracy without them", "with them alone")),
            rows([("plain", self.base), ("no head sees", self.none)]),
        )


def transfer(
    vlm: VLM,
    draw: Draw,
    rankings: Mapping[str, HeadScores],
    *,
    fraction: float = 0.05,
    batch_size: int = 16,
    level: float = 0.95,
    same_samples: bool = False,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Transfer:
    """Test the top `fraction` of each of the `rankings` on the samples of `draw`: accuracy without these heads, and
    with these alone. Intervals resample pictures; losses are paired.

    Raises: BadInput if there is no ranking, if one is of another model or of these samples, or if there are fewer than
    two pictures.

    >>> from corelib import atlas, load, task
    >>> scores = {"documents": atlas.cell("mini-s", "documents").scores()}
    >>> found = transfer(load("mini-s"), task("scenes").draw("test", samples=8), scores)
    >>> list(found.rankings)
    ['documents']
    """
    began = time.perf_counter()
    if not rankings:
        raise BadInput("no ranking is given: give head scores by the name of the task that ranked them")
    check_pictures(draw)
    for scores in rankings.values():
        check_scores(vlm, scores, draw, same_samples)
    if (reach := layers_in_reach(vlm, draw, batch_size)) is not None:
        rankings = {name: scores.within(reach) for name, scores in rankings.items()}
    every = HeadSet.all(vlm.num_layers, vlm.num_heads)
    tops = {name: scores.top(fraction) for name, scores in rankings.items()}
    sets = list(dict.fromkeys(tops.values()))
    rooms = {name: None if store is None else Path(store) / name for name in ("removed", "alone")}
    sweep = partial(answer_sweep, vlm, draw, batch_size=batch_size)
    removed = sweep(
        [HeadSet(), *sets], store=rooms["removed"], progress=lambda done, _: progress(done, 2 * draw.samples)
    ).correct.double()
    alone = sweep(
        [every, *(every - one for one in sets)],
        mode="image_knockout",
        store=rooms["alone"],
        progress=lambda done, _: progress(draw.samples + done, 2 * draw.samples),
    ).correct.double()
    plain, none = removed[0].numpy(), alone[0].numpy()
    interval = partial(bootstrap_interval, clusters=draw.clusters, level=level, seed=draw.seed)

    def kept(values: np.ndarray) -> AccuracyKept:
        return AccuracyKept.of(estimate(values, interval), loss=estimate(plain - values, interval))

    place = {one: number + 1 for number, one in enumerate(sets)}
    return Transfer(
        model=replace(vlm.facts, reach=reach),
        task=draw.facts(questions=draw.questions),
        level=level,
        base=Accuracy.of(estimate(plain, interval)),
        none=Accuracy.of(estimate(none, interval)),
        rankings={
            name: Transferred(
                RankingFacts(rankings[name].task, rankings[name].metric, fraction),
                one,
                kept(removed[place[one]].numpy()),
                kept(alone[place[one]].numpy()),
            )
            for name, one in tops.items()
        },
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )
