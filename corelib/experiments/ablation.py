"""Remove the heads on top of a ranking, and see what is lost; then remove others, and compare.

    found = ablate_top(load("mini-s"), task("scenes").draw("test", samples=512, questions=4), scores, draws=200)
    found.conditions.core.loss.accuracy              # accuracy lost, with its interval (paired bootstrap)
    found.percentile["layer_matched"].accuracy       # how often a layer-matched control loses as much

Heads are ranked on one split and removed on another; the same samples for both are refused. All conditions run on the
same test samples (`answer_sweep.py`), so that losses are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from corelib.analysis import controls
from corelib.analysis.kv_controls import kv_matched
from corelib.analysis.stats import bootstrap_interval, estimate, p_value, p_value_of_counts
from corelib.core.entries import check_whole
from corelib.core.errors import NoControl, check_known
from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import software
from corelib.core.values import RankingFacts
from corelib.experiments.ablation_curve import (
    DOSE_DRAWS,
    AblationCurves,
    fit_dose_response,
    sufficiency,
)
from corelib.experiments.ablation_result import Ablation, Base, Condition, Conditions, Loss, Null, Percentile
from corelib.experiments.answer_sweep import Resampling, answer_sweep, check_pictures, check_scores, compute_dtype
from corelib.experiments.evidence import chance_levels
from corelib.experiments.reach import within_reach
from corelib.models.answers import AnswerScores
from corelib.models.vlm import VLM
from corelib.tasks import Draw

NULLS = ("layer_matched", "kv_matched", "random")
Norms = HeadScores | Sequence[Sequence[float]]  # [layer][head]


def ablate_top(
    vlm: VLM,
    draw: Draw,
    scores: HeadScores,
    *,
    fraction: float = 0.05,
    mode: str = "zero",
    draws: int = 200,
    nulls: Sequence[str] = NULLS,
    norms: Norms | Callable[[], Norms] | None = None,
    doses: Sequence[float] | None = None,
    dose_draws: int = DOSE_DRAWS,
    batch_size: int = 16,
    level: float = 0.95,
    same_samples: bool = False,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Ablation:
    """The heads on top of `scores` against their controls, on samples that did not rank them.

    Intervals resample pictures (`draw.clusters`). `draws` sets are drawn for each of the `nulls` (all of them, if there
    are no more), and, with the heads' output `norms` (or a function that measures them), for a norm-matched one. A null
    of which no set exists, as where most heads of a layer are tested, is left out. Chance is the best constant answer.
    Of a model with sliding windows, no set has a head that does not reach the evidence of all samples (`reach.py`).

    `doses` adds the dose curve of the ranking, of its reverse, and of `dose_draws` layer-matched orders; and the
    opposite question, what the first heads suffice for when all *others* do not see the pictures.

    Raises: BadInput if the scores are of another model or of these samples, if there are fewer than two pictures, or
    if no head reaches the evidence of all samples.
    """
    began = time.perf_counter()
    for name, given in (("draws", draws), ("dose_draws", dose_draws)):
        check_whole(name, given, 1, controls.MOST_DRAWS)
    check_pictures(draw)
    check_scores(vlm, scores, draw, same_samples)
    scores = within_reach(vlm, draw, scores, batch_size)
    order, size = scores.order(), (vlm.num_layers, vlm.num_heads)
    core = scores.top(fraction)
    named = (core, controls.next_ranked(order, fraction), controls.lowest(order, fraction))
    for name in nulls:
        check_known("null", name, NULLS)
    drawn = {name: sets for name in nulls if (sets := _sets(vlm, name, core, scores.layers, draws, draw.seed))}
    if norms is not None:
        table = norms() if callable(norms) else norms
        drawn["norm_matched"] = controls.norm_matched(
            core, np.asarray(table).tolist(), draws=draws, seed=draw.seed, reach=scores.layers
        )
    curves = AblationCurves.draw(order, *size, doses, draws=dose_draws, seed=draw.seed) if doses else None
    every = [HeadSet(), *named, *(one for null in drawn.values() for one in null), *(curves.sets() if curves else ())]
    sets = list(dict.fromkeys(every))
    rooms = {name: None if store is None else Path(store) / name for name in ("removed", "kept")}
    steps = draw.samples * (2 if doses else 1)
    found = answer_sweep(
        vlm, draw, sets, mode=mode, batch_size=batch_size, store=rooms["removed"],
        progress=lambda done, _: progress(done, steps),
    )  # fmt: skip
    place = {one: number for number, one in enumerate(sets)}
    plain = found[place[HeadSet()]]
    interval = partial(bootstrap_interval, clusters=draw.clusters, level=level, seed=draw.seed)
    levels = chance_levels(vlm, draw, batch_size=batch_size)
    conditions = Conditions(*(_condition(plain, found[place[one]], one, interval) for one in named))
    measured = {
        name: _null(found, plain, [place[one] for one in null], null, draws, interval) for name, null in drawn.items()
    }
    kept = None
    if curves:
        kept = sufficiency(
            vlm, draw, curves, core, interval, batch_size=batch_size, store=rooms["kept"],
            progress=lambda done, _: progress(draw.samples + done, steps),
        )  # fmt: skip
    base = Base(*_proportion(plain, interval), logprob=plain.logprob.double().mean().item())
    return Ablation(
        model=replace(vlm.facts, reach=scores.model.reach),
        task=draw.facts(questions=draw.questions),
        ranking=RankingFacts(scores.task, scores.metric, fraction),
        mode=mode,
        level=level,
        base=base,
        chance=levels.constant,
        conditions=conditions,
        null=measured,
        percentile={name: _percentile(base, conditions.core, null, draw.samples) for name, null in measured.items()},
        dose=fit_dose_response(found, place, curves, levels.constant, interval) if curves else None,
        sufficiency=kept,
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
        levels=levels,
    )


def _sets(vlm: VLM, null: str, core: HeadSet, reach: Sequence[int], draws: int, seed: int) -> list[HeadSet]:
    """The sets of a null; none where too many heads of a layer are tested."""
    layers, heads = vlm.num_layers, vlm.num_heads
    try:
        if null == "layer_matched":
            return controls.layer_matched(core, layers, heads, draws=draws, seed=seed)
        if null == "kv_matched":
            return kv_matched(core, layers, heads, vlm.num_kv_heads, draws=draws, seed=seed)
    except NoControl:
        return []
    return controls.random_sets(core, layers, heads, draws=draws, seed=seed, reach=reach)


def _proportion(found: AnswerScores, interval: Resampling) -> tuple[float, float, float]:
    values = found.correct.double().numpy()
    low, high = interval(values)
    return float(values.mean()), float(low), float(high)


def _condition(plain: AnswerScores, found: AnswerScores, heads: HeadSet, interval: Resampling) -> Condition:
    pairs = ((plain.correct, found.correct), (plain.logprob, found.logprob))
    loss = Loss(*(estimate(one.double().numpy() - other.double().numpy(), interval) for one, other in pairs))
    return Condition(heads, *_proportion(found, interval), found.logprob.double().mean().item(), loss)


def _null(
    found: AnswerScores, plain: AnswerScores, places: list[int], sets: list[HeadSet], draws: int, interval: Resampling
) -> Null:
    accuracy, logprob = (tuple(each[places].double().mean(1).tolist()) for each in (found.correct, found.logprob))
    lost = plain.correct.double().numpy() - found.correct[places].double().mean(0).numpy()
    return Null(tuple(sets), accuracy, logprob, loss=estimate(lost, interval), complete=len(sets) < draws)


def _percentile(base: Base, core: Condition, null: Null, samples: int) -> Percentile:
    """Right answers are counted, so that equal losses are equal."""
    right, *others = (round(samples * share) for share in (core.accuracy, *null.accuracy))
    return Percentile(
        accuracy=p_value_of_counts(right, others),
        logprob=p_value(core.loss.logprob.value, [base.logprob - one for one in null.logprob]),
    )
