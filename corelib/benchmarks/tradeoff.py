"""Speed against accuracy: what each choice of dense heads and window gains, and what it loses.

    found = measure_trade(load("mini-s-long"), task("scenes", pictures=114), scores, widths=(64, 256), doses=(0.05,))
    found.points[0]["loss"], found.points[0]["prefill"]["speedup"]

All choices answer the same samples: those whose evidence is out of reach of the widest window. Each is timed against
dense attention in the same run, at the mean length of a sample; times need a machine that does nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from corelib.benchmarks.speed import measure_speed
from corelib.benchmarks.timing import machine_facts
from corelib.core.errors import BadInput
from corelib.core.heads import HeadScores, HeadSet
from corelib.core.results import Result, software
from corelib.experiments.answer_sweep import check_scores
from corelib.experiments.out_of_window import Condition, answer_under, sinks_and_length
from corelib.models.vlm import VLM
from corelib.sparse import Window, sparsify
from corelib.tasks import Task


@dataclass(frozen=True)
class Tradeoff(Result):
    """Accuracy and speed of each choice."""

    schema: ClassVar[str] = "corelib/trade/1"

    model: dict  # as in head scores
    task: dict  # domain, split, seed, samples, questions of each picture; counted: those whose evidence is out of reach
    ranking: dict  # of the head scores: task, metric
    sinks: int
    tokens: int  # the mean length of a sequence
    level: float  # of all intervals
    base: dict  # all dense: accuracy, low, high
    points: list[dict]  # width, dose, heads; accuracy, low, high, loss; attention, prefill, decode, cache as in `Speed`
    machine: dict
    software: dict
    seconds: float


def measure_tradeoff(
    vlm: VLM,
    task: Task,
    scores: HeadScores,
    *,
    widths: Sequence[int],
    doses: Sequence[float],
    split: str = "test",
    seed: int = 0,
    samples: int = 512,
    questions: int = 1,
    batch_size: int = 16,
    repeats: int = 3,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tradeoff:
    """Answer and time with the first heads of a ranking dense, at each dose (0: none of them), under each window."""
    began = time.perf_counter()
    check_scores(vlm, scores, split, seed)
    if not widths or not doses or samples < 2 or questions < 1 or repeats < 1:
        given = f"widths={list(widths)}, doses={list(doses)}, samples={samples}, questions={questions}"
        raise BadInput(f"{given}, repeats={repeats}: give a width, a dose, 2 samples, and the others 1 or more")
    sinks, tokens = sinks_and_length(vlm, task, split, seed, samples // questions)
    choices = [
        (Window(width, sinks), dose, scores.top(dose) if dose else HeadSet()) for width in widths for dose in doses
    ]
    ways: list[Condition] = [
        nullcontext,
        *(partial(sparsify, vlm.model, heads, window) for window, _, heads in choices),
    ]
    named = {"widths": list(widths), "sets": [heads.to_json() for *_, heads in choices]}
    found = answer_under(
        vlm, task, ways, Window(max(widths), sinks), split=split, seed=seed, samples=samples, questions=questions,
        batch_size=batch_size, level=level, named=named, store=store, progress=progress,
    )  # fmt: skip
    points = []
    for number, (window, dose, heads) in enumerate(choices, start=1):
        speed = measure_speed(vlm.model, heads, window, [tokens], facts=vlm.facts, repeats=repeats).lengths[0]
        told = {name: speed[name] for name in ("attention", "prefill", "decode", "cache")}
        point = {"width": window.width, "dose": dose, "heads": heads.to_json()}
        points.append({**point, **found.against(number), **told})
    told = {"split": split, "seed": seed, "samples": samples, "questions": questions, "counted": found.right.shape[1]}
    return Tradeoff(
        model=vlm.facts,
        task={**task.facts, **told},
        ranking={"task": scores.task, "metric": scores.metric},
        sinks=sinks,
        tokens=tokens,
        level=level,
        base=found.stated(0),
        points=points,
        machine=machine_facts(vlm.model.device),
        software=software(),
        seconds=round(time.perf_counter() - began, 2),
    )
