"""Speed against accuracy: what each choice of dense heads and window gains, and what it loses.

    draw = task("scenes", pictures=114).draw("test", samples=320, questions=20)
    found = measure_tradeoff(load("mini-s-long"), draw, scores, widths=(64, 256), doses=(0.05,))
    found.points[0].loss, found.points[0].prefill.speedup

All choices answer the same samples: those whose evidence is out of reach of the widest window. Each is timed against
dense attention in the same run, at the mean length of a sample; times need a machine that does nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from corelib.benchmarks.speed import measure_speed
from corelib.benchmarks.timing import Compared, Sizes, machine_facts
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.core.heads import Heads, HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import Accuracy, BenchFacts, Estimate, Machine, ModelFacts, RankingFacts, Software, TaskFacts
from corelib.experiments.answer_sweep import check_scores
from corelib.experiments.out_of_window import Condition, answer_under, sinks_and_length
from corelib.experiments.reach import within_reach
from corelib.models.vlm import VLM
from corelib.sparse import Window, sparsify
from corelib.tasks import Draw


@dataclass(frozen=True)
class Point:
    """One choice of dense heads and window."""

    width: int
    dose: float
    heads: Heads
    accuracy: float
    low: float
    high: float
    loss: Estimate
    attention: Compared
    prefill: Compared
    decode: Compared
    cache: Sizes


@dataclass(frozen=True, repr=False)
class Tradeoff(Result):
    """Accuracy and speed of each choice."""

    schema: ClassVar[str] = "corelib/trade/1"

    model: ModelFacts
    task: TaskFacts  # counted: those samples whose evidence is out of reach
    ranking: RankingFacts
    sinks: int
    tokens: int  # the mean length of a sequence
    level: float  # of all intervals
    base: Accuracy  # all dense
    points: tuple[Point, ...]
    machine: Machine
    software: Software
    seconds: float


def measure_tradeoff(
    vlm: VLM,
    draw: Draw,
    scores: HeadScores,
    *,
    widths: Sequence[int],
    doses: Sequence[float],
    batch_size: int = 16,
    repeats: int = 7,
    busy: bool = False,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Tradeoff:
    """Answer and time with the first heads of a ranking dense, at each dose (0: none of them), under each window.

    Raises: BadInput if the scores are of another model or of these samples, if there is no width, dose or repeat, or if
    the machine is busy and `busy` does not allow that.
    """
    began = time.perf_counter()
    check_scores(vlm, scores, draw)
    scores = within_reach(vlm, draw, scores, batch_size)
    if not widths or not doses or repeats < 1:
        given = f"widths={list(widths)}, doses={list(doses)}, repeats={repeats}"
        raise BadInput(f"{given}: give a width, a dose, and 1 repeat or more")
    sinks, tokens = sinks_and_length(vlm, draw)
    choices = [
        (Window(width, sinks), dose, scores.top(dose) if dose else HeadSet()) for width in widths for dose in doses
    ]
    conditions: list[Condition] = [nullcontext]
    conditions += [partial(sparsify, vlm.model, heads, window) for window, _, heads in choices]
    named = {"widths": list(widths), "sets": [heads.to_json() for *_, heads in choices]}
    found = answer_under(
        vlm, draw, conditions, Window(max(widths), sinks), batch_size=batch_size, level=level, named=named,
        store=store, progress=progress,
    )  # fmt: skip
    mine = vlm.facts
    facts = BenchFacts(mine.name, "trained", mine.num_layers, mine.num_layers, mine.num_heads, mine.num_kv_heads)
    points = []
    for number, (window, dose, heads) in enumerate(choices, start=1):
        speed = measure_speed(vlm.model, heads, window, [tokens], facts=facts, repeats=repeats, busy=busy).lengths[0]
        told = {name: getattr(speed, name) for name in ("attention", "prefill", "decode", "cache")}
        points.append(Point(window.width, dose, heads, **vars(found.against(number)), **told))
    return Tradeoff(
        model=mine,
        task=draw.facts(questions=draw.questions, counted=found.counted),
        ranking=RankingFacts(scores.task, scores.metric),
        sinks=sinks,
        tokens=tokens,
        level=level,
        base=found.stated(0),
        points=tuple(points),
        machine=machine_facts(vlm.model.device),
        software=software(),
        seconds=round(time.perf_counter() - began, 2),
    )
