"""Do heads rank alike at the right answers and at what the model writes itself?

    found = compare_written(vlm, task("documents").draw("select", samples=128))
    found.spearman, found.shared            # over all heads; of the top heads
    found.same                              # how often the model writes just the right answer

Both rankings are of the same questions. The first reads heads at the rows that predict the right answer, the second at
those that predict what was written (`written.py`). Where a model writes the right answer, the two rows are one; and the
first token of an answer is predicted by the last row of the prompt, whatever it is. So answers of one token cannot tell
the two apart, and `apart` says how many samples can.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from corelib.analysis.agreement import compare_heads, correlation_within_groups
from corelib.analysis.stats import bootstrap_interval, estimate
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores, ordered
from corelib.core.heads import Heads, HeadSet, top_count
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import Estimate, MetricFacts, ModelFacts, Reliability, Software, TaskFacts
from corelib.experiments.answer_sweep import compute_dtype
from corelib.experiments.score_heads import measure_heads, summarise_heads
from corelib.experiments.written import written
from corelib.metrics.catalogue import PRIMARY, Metric
from corelib.models.vlm import VLM
from corelib.tasks import Draw

TOKENS = 32  # of a written answer
ROUNDING = 1e-3  # scores that differ by no more are equal


@dataclass(frozen=True, repr=False)
class WrittenRows(Result):
    """Heads ranked twice on the same questions: at the right answers, and at what the model writes."""

    schema: ClassVar[str] = "corelib/written-rows/1"

    model: ModelFacts
    task: TaskFacts  # accuracy: of the right answers
    metric: MetricFacts
    same: Estimate  # the share of samples to which just the right answer is written
    apart: int  # samples in which a head scores otherwise at the two
    right: Heads  # on top at the right answers
    written: Heads  # on top at what was written
    spearman: Estimate  # of all heads; pictures are drawn anew
    within_layers: float  # the same within layers,
    p: float  # and how often draws within key/value groups agree as much
    shared: Estimate  # the share of the top heads that both rankings have
    shared_by_chance: float
    chance: float  # how likely chance shares at least as many
    reliability: Reliability | None  # of the ranking at the right answers, on halves of the samples
    software: Software
    seconds: float


def compare_written(
    vlm: VLM,
    draw: Draw,
    *,
    metric: Metric = PRIMARY,
    fraction: float = 0.05,
    tokens: int = TOKENS,
    batch_size: int | None = None,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> WrittenRows:
    """Rank the heads at the right answers and at what `vlm` writes, at most so many `tokens`.

    Raises: BadInput as `written`, if the task has no evidence, or if all heads have one score.

    >>> from corelib import load, task
    >>> found = compare_written(load("mini-s"), task("scenes").draw("select", samples=4))
    >>> found.apart, round(found.spearman.value, 6)  # answers of one token
    (0, 1.0)
    """
    began = time.perf_counter()
    own = written(vlm, draw, tokens=tokens, batch_size=batch_size)
    scores: list[HeadScores] = []
    tables: list[Float[np.ndarray, "sample layer head"]] = []
    for name, mine in {"right": draw, "written": own}.items():
        kept = None if store is None else Path(store) / name
        options: dict[str, Any] = {"batch_size": batch_size, "store": kept, "progress": progress}
        found = measure_heads(vlm, mine, quantities=(metric.quantity,), keys=(metric.key,), **options)
        if found is None:
            raise BadInput("two rankings are compared by one process")
        scores.append(summarise_heads(vlm, mine, found, metric=metric))
        tables.append(found.scores[metric.key].double().numpy())
    both = np.stack(tables, axis=1)  # [sample, way, layer, head]
    interval = partial(bootstrap_interval, clusters=draw.clusters, seed=draw.seed)
    low, high = interval(both, statistic=partial(_agreement, fraction=fraction))
    value = _agreement(both.mean(0), fraction)
    right, said = scores
    agreed, (within, p) = compare_heads(right, said, fraction), correlation_within_groups(right, said)
    same = [text == sample.answer for (text, _), sample in zip(own.written, draw, strict=True)]
    return WrittenRows(
        model=vlm.facts,
        task=right.task,
        metric=right.metric,
        same=estimate(np.array(same, dtype=float), interval),
        apart=int((np.abs(both[:, 0] - both[:, 1]) > ROUNDING).any((1, 2)).sum()),
        right=right.top(fraction),
        written=said.top(fraction),
        spearman=Estimate(value[0], float(low[0]), float(high[0])),
        within_layers=within,
        p=p,
        shared=Estimate(value[1], float(low[1]), float(high[1])),
        shared_by_chance=agreed.top.expected / len(right.top(fraction)),
        chance=agreed.top.chance,
        reliability=right.reliability,
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def _agreement(means: Float[np.ndarray, "way layer head"], fraction: float) -> tuple[float, float]:
    """Spearman's rank correlation over all heads, and the share of the top heads that both have."""
    one, two = means
    count = top_count(fraction, one.size)
    shared = HeadSet(ordered(one)[:count]) & HeadSet(ordered(two)[:count])
    return float(spearmanr(one.ravel(), two.ravel()).statistic), len(shared) / count
