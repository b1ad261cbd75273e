"""How much accuracy is kept when only few heads see far, and all others a window?

    found = measure_hybrid(load("bridge"), task("scenes").draw("test", samples=96), scores, width=16)
    found.core[3].loss                  # with the top 5 % dense: accuracy lost against all dense, paired

Every condition answers the same samples. Only those count whose evidence lies outside the window of every row behind
the pictures: for the others a window is no loss. Baselines, at each dose of dense heads:

    layer_matched   as many other heads of each layer dense
    random          as many other heads dense
    group           the key/value choice: heads that share memory with a dense one are dense, too
    uniform         no head dense, one window for all, as wide as makes the same number of keys a row
    oracle          every head sees as many keys as that, those it likes best: needs the attention it would save
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from corelib.analysis import controls
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.core.heads import Heads, HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import (
    Accuracy,
    AccuracyKept,
    Estimate,
    ModelFacts,
    RankingFacts,
    Software,
    TaskFacts,
    WindowFacts,
)
from corelib.experiments.ablation_curve import AblationCurves, DoseCurve
from corelib.experiments.answer_sweep import check_scores, compute_dtype
from corelib.experiments.out_of_window import Condition, answer_under, sinks_and_length
from corelib.experiments.reach import within_reach
from corelib.models.vlm import VLM
from corelib.sparse import Window, sparsify
from corelib.sparse.kv import far_kv_heads, whole_groups
from corelib.sparse.oracle_topk import oracle_topk
from corelib.sparse.window import mean_keys, width_for
from corelib.tasks import Draw

DENSE = (0.01, 0.02, 0.05, 0.10, 0.20, 0.50)


@dataclass(frozen=True)
class CoreDense:
    """The first heads of the ranking dense."""

    heads: Heads
    keys: float  # that a row sees on average, over all heads
    accuracy: float
    low: float
    high: float
    loss: Estimate


@dataclass(frozen=True)
class GroupsDense:
    """Whole groups dense, of heads that share keys and values."""

    heads: int
    kept: float  # the share of key/value heads that remember everything
    accuracy: float
    low: float
    high: float
    loss: Estimate


@dataclass(frozen=True)
class UniformWindow:
    """One window for all heads."""

    width: int
    accuracy: float
    low: float
    high: float
    loss: Estimate


@dataclass(frozen=True)
class TopKeys:
    """The keys of highest attention for every row of every head."""

    keys: int
    accuracy: float
    low: float
    high: float
    loss: Estimate


@dataclass(frozen=True, repr=False)
class Hybrid(Result):
    """Accuracy by the share of heads that stay dense."""

    schema: ClassVar[str] = "corelib/hybrid/1"

    model: ModelFacts
    task: TaskFacts  # counted: those samples whose evidence is out of reach
    ranking: RankingFacts
    window: WindowFacts
    level: float  # of all intervals
    base: Accuracy  # all dense
    none: AccuracyKept  # no head dense
    doses: tuple[float, ...]
    core: tuple[CoreDense, ...]  # at each dose
    group: tuple[GroupsDense, ...]
    uniform: tuple[UniformWindow, ...]
    oracle: tuple[TopKeys, ...]
    layer_matched: tuple[DoseCurve, ...]  # accuracy of each draw
    random: tuple[DoseCurve, ...]
    software: Software
    seconds: float


def measure_hybrid(
    vlm: VLM,
    draw: Draw,
    scores: HeadScores,
    *,
    width: int,
    doses: Sequence[float] = DENSE,
    draws: int = 10,
    batch_size: int = 16,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Hybrid:
    """Answer under hybrid attention: the first heads of a ranking dense, all others sinks and a window of `width`.

    The sinks are everything before the first picture, at least 4 tokens. With several questions about each picture
    (or row of pictures), these are read once a condition, and intervals resample pictures.

    Raises: BadInput if the scores are of another model or of these samples, if `draws` is below 1, or if the window
    reaches the evidence of nearly all samples.
    """
    began = time.perf_counter()
    check_scores(vlm, scores, draw)
    scores = within_reach(vlm, draw, scores, batch_size)
    if draws < 1:
        raise BadInput(f"draws={draws}: a control needs one draw or more")
    layers, heads, kv_heads = vlm.num_layers, vlm.num_heads, vlm.num_kv_heads
    curves = AblationCurves.draw(scores.order(), layers, heads, doses, draws=draws, seed=draw.seed)
    blindly = [
        controls.random_sets(one, layers, heads, draws=draws, seed=draw.seed, reach=scores.layers)
        if 2 * len(one) <= len(scores.order())
        else None
        for one in curves.core
    ]
    sinks, length = sinks_and_length(vlm, draw)
    window = Window(width, sinks)
    grouped = [whole_groups(one, heads // kv_heads) for one in curves.core]
    keys = [mean_keys(len(one) / (layers * heads), window, length) for one in curves.core]
    widths = [width_for(one, window.sinks, length) for one in keys]
    most = [width_for(one, 0, length) for one in keys]  # of a row's best keys, so that it sees as many
    dense: list[HeadSet | None] = [HeadSet(), *curves.core, *grouped, *itertools.chain(*curves.matched)]
    dense += [one for drawn in blindly for one in drawn or ()]
    sets = list(dict.fromkeys(one for one in dense if one is not None))
    conditions: list[Condition] = [nullcontext]
    conditions += [partial(sparsify, vlm.model, one, window) for one in sets]
    conditions += [partial(sparsify, vlm.model, HeadSet(), Window(one, window.sinks)) for one in widths]
    conditions += [partial(oracle_topk, vlm.model, one) for one in most]
    found = answer_under(
        vlm, draw, conditions, window, batch_size=batch_size, level=level,
        named={"widths": widths, "most": most, "sets": [one.to_json() for one in sets]},
        store=store, progress=progress,
    )  # fmt: skip
    place = {one: 1 + number for number, one in enumerate(sets)}
    first = 1 + len(sets)

    def kept(condition: int) -> dict[str, Any]:
        return vars(found.against(condition))

    def mean(one: HeadSet | None) -> float | None:
        return None if one is None else found.accuracy(place[one])

    shares = [len(far_kv_heads(one, heads // kv_heads)) / (layers * kv_heads) for one in curves.core]
    return Hybrid(
        model=replace(vlm.facts, reach=scores.model.reach),
        task=draw.facts(questions=draw.questions, counted=found.counted),
        ranking=RankingFacts(scores.task, scores.metric),
        window=WindowFacts(window.width, window.sinks, length),
        level=level,
        base=found.stated(0),
        none=found.against(place[HeadSet()]),
        doses=tuple(doses),
        core=tuple(CoreDense(one, seen, **kept(place[one])) for one, seen in zip(curves.core, keys, strict=True)),
        group=tuple(
            GroupsDense(len(one), share, **kept(place[one])) for one, share in zip(grouped, shares, strict=True)
        ),
        uniform=tuple(UniformWindow(one, **kept(first + k)) for k, one in enumerate(widths)),
        oracle=tuple(TopKeys(one, **kept(first + len(widths) + k)) for k, one in enumerate(most)),
        layer_matched=tuple(tuple(mean(one) for one in curve) for curve in curves.matched),
        random=tuple(tuple(mean(drawn[number]) if drawn else None for drawn in blindly) for number in range(draws)),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )
