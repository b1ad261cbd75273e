"""How it is had what few dense heads keep, and what time they save. Functions as in `measures.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corelib.atlas.extents import extent
from corelib.atlas.ranked import ranking, tested_task
from corelib.benchmarks.tradeoff import Tradeoff, measure_tradeoff
from corelib.core.head_scores import HeadScores
from corelib.experiments.hybrid import Hybrid, measure_hybrid
from corelib.experiments.score_heads import score_heads
from corelib.models.vlm import VLM
from corelib.tasks import Task, task

LONG = {"scenes": {"pictures": 114}, "documents": {"pages": 84}}  # about 4,000 visual tokens


def hybrid(vlm: VLM, domain: str) -> Callable[..., Hybrid]:
    """Few heads dense, all others sinks and a window."""

    size = extent(vlm)
    samples, draws = size.hybrid

    def measure(seed: int = 0, **more: Any) -> Hybrid:
        draw, scores = tested_task(vlm, domain).draw("test", samples=samples, seed=seed), ranking(vlm, domain)
        return measure_hybrid(vlm, draw, scores, width=size.window, draws=draws, batch_size=size.batch_size, **more)

    return measure


def hybrid_long(vlm: VLM, domain: str) -> Callable[..., Hybrid]:
    """The same with thousands of visual tokens."""

    def measure(seed: int = 0, **more: Any) -> Hybrid:
        work, scores = _long(vlm, domain)
        draw = work.draw("test", samples=560, seed=seed, questions=20)
        return measure_hybrid(vlm, draw, scores, width=256, doses=(0.05, 0.10, 0.20), draws=3, **more)

    return measure


def tradeoff(vlm: VLM, domain: str) -> Callable[..., Tradeoff]:
    """What is lost, and how much time is gained."""

    def measure(seed: int = 0, **more: Any) -> Tradeoff:
        work, scores = _long(vlm, domain)
        draw = work.draw("test", samples=320, seed=seed, questions=20)
        return measure_tradeoff(vlm, draw, scores, widths=(64, 256, 1024), doses=(0.0, 0.05, 0.10, 0.20), **more)

    return measure


def _long(vlm: VLM, domain: str) -> tuple[Task, HeadScores]:
    """A task of thousands of visual tokens, and the heads ranked on few samples as long as those of the test: each is
    one pass."""
    work = task(domain, **LONG[domain])
    return work, score_heads(vlm, work.draw("select", samples=48), batch_size=1)
