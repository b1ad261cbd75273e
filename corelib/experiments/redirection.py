"""Move what a few heads look at from the evidence to another object, and see whether the answer is that object's.

    draw = task("scenes").draw("test", samples=512, questions=4)
    found = redirect_top(load("bridge"), draw, scores)
    found.core.moved, found.complement.moved          # of the top 5 % of heads, and of all others together
    found.null.moved                                  # of as many heads of the same layers and key/value groups

Every question is paired with another one about the same picture (`rivals.py`); what the heads pay to its evidence goes
to the other's (`attention/redirect.py`). Of the questions that are answered rightly without it, how many get the other
answer (*moved*), keep their own (*stayed*), or get neither? Answers of several tokens are what greedy decoding under
the intervention would write: every token is the most likely one behind those before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from corelib.analysis.controls import MOST_DRAWS
from corelib.analysis.kv_controls import kv_matched
from corelib.analysis.stats import bootstrap_interval, estimate
from corelib.attention.redirect import STRENGTHS, Strength
from corelib.core.entries import check_whole
from corelib.core.errors import BadInput, NoControl, check_known
from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import software
from corelib.core.values import Accuracy, Estimate, RankingFacts
from corelib.experiments.answer_sweep import check_pictures, check_scores, compute_dtype
from corelib.experiments.reach import within_reach
from corelib.experiments.redirecting import Intervention, redirect_sweep
from corelib.experiments.redirection_result import Redirected, Redirection, RedirectionNull
from corelib.models.vlm import VLM
from corelib.tasks import Draw

COUNTS, FRACTIONS = (1, 2, 4, 7), (0.01, 0.02, 0.05, 0.10, 0.20)
ROWS = ("answer", "after")  # those that predict the answer; all rows after the pictures


def redirect_top(
    vlm: VLM,
    draw: Draw,
    scores: HeadScores,
    *,
    fraction: float = 0.05,
    strength: Strength = "mass-preserving",
    rows: str = "after",
    draws: int = 100,
    details: bool = True,
    batch_size: int = 32,
    level: float = 0.95,
    same_samples: bool = False,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Redirection:
    """Redirect the top heads of a ranking, all other heads, and `draws` sets that are matched by layer and key/value
    group (all of them, if there are no more), on samples that did not rank them. Intervals resample pictures.

    `details` adds the dose curve, the other strengths, single rows, and two checks of specificity: what falls on a
    distractor goes to the target, and what falls on the evidence to places where nothing is.

    Raises: BadInput if the scores are of another model or of these samples, if there are fewer than two pictures or
    questions about each, or if no question has a rival; UnknownName for rows or a strength that are none.
    """
    began = time.perf_counter()
    check_known("strength", strength, STRENGTHS)
    check_known("rows of a redirection", rows, ROWS)
    check_pictures(draw)
    check_scores(vlm, scores, draw, same_samples)
    scores = within_reach(vlm, draw, scores, batch_size)
    if draw.questions < 2:
        raise BadInput("a question needs another one about the same picture: draw with questions=2 or more")
    check_whole("draws", draws, 1, MOST_DRAWS)
    core = scores.top(fraction)
    every = HeadSet(scores.order())
    plan = {"core": Intervention(core, rows, strength), "complement": Intervention(every - core, rows, strength)}
    matched = _matched(vlm, core, draws, draw.seed)
    plan |= {f"null {k}": Intervention(one, rows, strength) for k, one in enumerate(matched)}
    if details:
        plan |= _details(vlm, scores, core, rows, strength, _shortest(vlm, draw))
    found = redirect_sweep(vlm, draw, plan, batch_size=batch_size, store=store, progress=progress)
    right, clusters = found["right"], np.array(draw.clusters)
    if not right.any():
        raise BadInput(f"no question about {draw.task.name} has a rival and is answered rightly: nothing can be moved")

    def interval(values: np.ndarray, mine: np.ndarray) -> Estimate:
        among = clusters[mine].tolist()
        if len(set(among)) < 2:
            raise BadInput(
                "questions about one picture alone can be moved: an interval needs two; ask for more samples"
            )
        return estimate(values[mine], partial(bootstrap_interval, clusters=among, level=level, seed=draw.seed))

    told = {name: _outcome(one.heads, found, k, interval) for k, (name, one) in enumerate(plan.items())}

    def named(prefix: str) -> dict[str, Redirected]:
        return {name.removeprefix(prefix): one for name, one in told.items() if name.startswith(prefix) and one}

    tops = {name: one for name in ("core", "complement") if (one := told[name]) is not None}
    return Redirection(
        model=replace(vlm.facts, reach=scores.model.reach),
        task=draw.facts(questions=draw.questions, counted=int(right.sum())),
        ranking=RankingFacts(scores.task, scores.metric, fraction),
        strength=strength,
        rows=rows,
        level=level,
        pairs=int(found["paired"].sum()),
        base=Accuracy.of(interval(right.astype(float), found["paired"])),
        core=tops["core"],
        complement=tops["complement"],
        doses=named("dose "),
        null=_null(tops["core"], list(named("null ").values()), int(right.sum()), draws) if matched else None,
        other_strengths=named("strength "),
        other_rows=named("rows "),
        specificity=named("specificity "),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def _matched(vlm: VLM, core: HeadSet, draws: int, seed: int) -> list[HeadSet]:
    try:
        return kv_matched(core, vlm.num_layers, vlm.num_heads, vlm.num_kv_heads, draws=draws, seed=seed)
    except NoControl:
        return []


def _details(
    vlm: VLM, scores: HeadScores, core: HeadSet, rows: str, strength: Strength, shortest: int
) -> dict[str, Intervention]:
    order = scores.order()
    counts = sorted({*(k for k in COUNTS if k < len(order)), *(len(scores.top(one)) for one in FRACTIONS)})
    plan = {f"dose {k}": Intervention(HeadSet(order[:k]), rows, strength) for k in counts}
    plan |= {f"strength {one}": Intervention(core, rows, one) for one in STRENGTHS if one != strength}
    plan |= {f"rows {one}": Intervention(core, one, strength) for one in ROWS if one != rows}
    plan |= {f"rows {-k}": Intervention(core, str(-k), strength) for k in range(1, shortest + 1)}
    plan["specificity from a distractor"] = Intervention(core, rows, strength, source="distractor")
    plan["specificity to empty places"] = Intervention(core, rows, strength, goal="empty")
    return plan


def _shortest(vlm: VLM, draw: Draw) -> int:
    """How many rows after the pictures every prompt has at least."""
    batch = vlm.encode(draw.take(range(min(draw.samples, 64))))
    return int((batch.after_image.sum(1) - batch.lengths[:, 2]).min())


def _outcome(
    heads: HeadSet,
    found: dict[str, np.ndarray],
    number: int,
    interval: Callable[[np.ndarray, np.ndarray], Estimate],
) -> Redirected | None:
    """Of one condition, among the questions that were answered rightly and that it applies to; None if to none."""
    mine = found["right"] & found["applies"][:, number]
    if not mine.any():
        return None
    moved, stayed = (found[name][:, number].astype(float) for name in ("moved", "stayed"))
    return Redirected(heads, *(interval(one, mine) for one in (moved, stayed, 1 - moved - stayed)))


def _null(core: Redirected, drawn: Sequence[Redirected], counted: int, asked: int) -> RedirectionNull:
    """Moved answers are counted, so that equal numbers are equal."""
    moved = [round(one.moved.value * counted) for one in drawn]
    as_many = sum(one >= round(core.moved.value * counted) for one in moved)
    return RedirectionNull(
        sets=tuple(one.heads for one in drawn),
        moved=tuple(one.moved.value for one in drawn),
        p=(1 + as_many) / (1 + len(drawn)),
        complete=len(drawn) < asked,
    )
