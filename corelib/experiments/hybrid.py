"""How much accuracy is kept when only few heads see far, and all others a window?

    found = keep_few_dense(load("bridge"), task("scenes"), scores, width=16)
    found.core[3]["loss"]               # with the top 5 % dense: accuracy lost against all dense, paired

Every condition answers the same samples. Only those count whose evidence lies outside the window of every row behind
the pictures: for the others a window is no loss. Baselines, at each dose of dense heads:

    layer_matched   as many other heads of each layer dense
    random          as many other heads dense
    group           the key/value choice: heads that share memory with a dense one are dense, too
    uniform         no head dense, one window for all, as wide as makes the same number of keys a row
    oracle          every head sees as many keys as that, those it likes best: needs the attention it would save
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from corelib.analysis import controls
from corelib.core.errors import BadInput
from corelib.core.heads import HeadScores, HeadSet
from corelib.core.results import Result, software
from corelib.experiments.ablation_curve import AblationCurves
from corelib.experiments.answer_sweep import check_scores, compute_dtype
from corelib.experiments.out_of_window import Condition, answer_under, sinks_and_length
from corelib.models.vlm import VLM
from corelib.sparse import Window, sparsify
from corelib.sparse.kv import far_kv_heads, whole_groups
from corelib.sparse.oracle_topk import oracle_topk
from corelib.sparse.window import mean_keys
from corelib.tasks import Task

DENSE = (0.01, 0.02, 0.05, 0.10, 0.20, 0.50)


@dataclass(frozen=True)
class Hybrid(Result):
    """Accuracy by the share of heads that stay dense."""

    schema: ClassVar[str] = "corelib/hybrid/1"

    model: dict  # as in head scores
    task: dict  # domain, split, seed, samples, questions of each picture; counted: those whose evidence is out of reach
    ranking: dict  # of the head scores: task, metric
    window: dict  # width, sinks; tokens: the mean length of a sequence
    level: float  # of all intervals
    base: dict  # all dense: accuracy, low, high
    none: dict  # no head dense: accuracy, low, high, loss
    doses: list[float]
    core: list[dict]  # at each dose: heads; keys a row sees on average; accuracy, low, high, loss
    group: list[dict]  # the same, for whole groups; kept: the share of key/value heads that remember everything
    uniform: list[dict]  # width; the same
    oracle: list[dict]  # keys; the same
    layer_matched: list[list[float | None]]  # [draw][dose]: accuracy; None where there is no disjoint control
    random: list[list[float | None]]
    software: dict
    seconds: float


def measure_hybrid(
    vlm: VLM,
    task: Task,
    scores: HeadScores,
    *,
    width: int,
    doses: Sequence[float] = DENSE,
    draws: int = 10,
    split: str = "test",
    seed: int = 0,
    samples: int = 512,
    questions: int = 1,
    batch_size: int = 16,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Hybrid:
    """Answer under hybrid attention: the first heads of a ranking dense, all others sinks and a window of `width`.

    The sinks are everything before the first picture, at least 4 tokens. With several `questions` about each picture
    (or row of pictures), these are read once a condition, and intervals resample pictures.
    """
    began = time.perf_counter()
    check_scores(vlm, scores, split, seed)
    if draws < 1 or samples < 2 or questions < 1:
        raise BadInput(f"samples={samples}, questions={questions}, draws={draws}: give 2, 1 and 1 or more")
    size = (vlm.num_layers, vlm.num_heads)
    curves = AblationCurves.draw(scores.order(), *size, doses, draws=draws, seed=seed)
    blindly = [
        controls.random_sets(one, *size, draws=draws, seed=seed) if 2 * len(one) <= size[0] * size[1] else None
        for one in curves.core
    ]
    sinks, length = sinks_and_length(vlm, task, split, seed, samples // questions)
    window = Window(width, sinks)
    grouped = [whole_groups(one, vlm.num_heads // vlm.num_kv_heads) for one in curves.core]
    keys = [mean_keys(len(one) / (size[0] * size[1]), window, length) for one in curves.core]
    widths = [_width(one, window.sinks, length) for one in keys]
    most = [_width(one, 0, length) for one in keys]  # of a row's favourites, so that it sees as many
    sets = [HeadSet(), *curves.core, *grouped, *(one for curve in curves.matched for one in curve)]
    sets += [one for drawn in blindly for one in drawn or ()]
    sets = list(dict.fromkeys(one for one in sets if one is not None))
    ways: list[Condition] = [nullcontext]
    ways += [partial(sparsify, vlm.model, one, window) for one in sets]
    ways += [partial(sparsify, vlm.model, HeadSet(), Window(one, window.sinks)) for one in widths]
    ways += [partial(oracle_topk, vlm.model, one) for one in most]
    found = answer_under(
        vlm, task, ways, window, split=split, seed=seed, samples=samples, questions=questions, batch_size=batch_size,
        level=level, named={"widths": widths, "most": most, "sets": [one.to_json() for one in sets]},
        store=store, progress=progress,
    )  # fmt: skip
    place = {one: 1 + number for number, one in enumerate(sets)}
    first = 1 + len(sets)

    def mean(one: HeadSet | None) -> float | None:
        return None if one is None else found.accuracy(place[one])

    shares = [
        len(far_kv_heads(one, vlm.num_heads // vlm.num_kv_heads)) / (vlm.num_layers * vlm.num_kv_heads)
        for one in curves.core
    ]
    return Hybrid(
        model=vlm.facts,
        task={
            **task.facts,
            "split": split,
            "seed": seed,
            "samples": samples,
            "questions": questions,
            "counted": found.right.shape[1],
        },
        ranking={"task": scores.task, "metric": scores.metric},
        window={"width": window.width, "sinks": window.sinks, "tokens": length},
        level=level,
        base=found.stated(0),
        none=found.against(place[HeadSet()]),
        doses=list(doses),
        core=[
            {"heads": one.to_json(), "keys": seen, **found.against(place[one])}
            for one, seen in zip(curves.core, keys, strict=True)
        ],
        group=[
            {"heads": len(one), "kept": share, **found.against(place[one])}
            for one, share in zip(grouped, shares, strict=True)
        ],
        uniform=[{"width": one, **found.against(first + k)} for k, one in enumerate(widths)],
        oracle=[{"keys": one, **found.against(first + len(widths) + k)} for k, one in enumerate(most)],
        layer_matched=[[mean(one) for one in curve] for curve in curves.matched],
        random=[[mean(drawn[draw]) if drawn else None for drawn in blindly] for draw in range(draws)],
        software={**software(), "precision": compute_dtype(vlm)},
        seconds=round(time.perf_counter() - began, 2),
    )


def _width(keys: float, sinks: int, length: int) -> int:
    """The window with which all heads see about so many keys."""
    return min(range(1, length + 1), key=lambda width: abs(Window(width, sinks).mean_seen(length) - keys))
