"""Score the heads of a model on a task: every head, sample by sample, then the mean with an interval.

    draw = task("scenes").draw("select", samples=256)
    scores = score_heads(vlm, draw)                             # RAM; HeadScores

which is, in two steps,

    found = measure_heads(vlm, draw)                            # several quantities, resumable
    scores = summarise_heads(vlm, draw, found, metric=metric("raw"))
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from corelib.analysis.reliability import split_half
from corelib.analysis.stats import bootstrap_interval
from corelib.core.errors import BadInput, check_known
from corelib.core.head_scores import HeadScores, Interval
from corelib.core.progress import Progress, silent
from corelib.core.sample_store import collect_share
from corelib.core.values import MetricFacts, TaskFacts
from corelib.experiments.answer_sweep import compute_dtype
from corelib.experiments.reach import common_reach
from corelib.experiments.reading import BASIC_QUANTITIES, Measurement, check_quantities, read_heads
from corelib.metrics.catalogue import PRIMARY, Metric
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.tasks import RETRIEVING, UNTRAINED, Draw

ENOUGH_FOR_HALVES = 16  # samples


def measure_heads(
    vlm: VLM,
    draw: Draw,
    *,
    batch_size: int | None = None,
    quantities: Sequence[str] = BASIC_QUANTITIES,
    keys: Sequence[str] | None = None,
    store: str | Path | None = None,
    progress: Progress = silent,
    process: tuple[int, int] = (0, 1),
) -> Measurement | None:
    """Measure the samples of `draw`, `batch_size` at once (left out: `vlm.batch_size`).

    With a `store`, go on where an earlier, killed run stopped. `keys`: of the scores (`"answer/mean/raw"`), keep only
    these. `process` is (rank, world size) of several processes that fill one store (`distributed.py`): all but the
    first one do their part and give None.

    Raises: BadInput if the task has no evidence, or cannot give one of the quantities.
    """
    batch_size = vlm.batch_size if batch_size is None else batch_size
    first = draw[0]
    if not first.evidence and not first.spans:
        allowed = ", ".join((*RETRIEVING, *UNTRAINED))
        raise BadInput(f"{draw.task.name} has no evidence: choose a task that has ({allowed})")
    if tuple(quantities) != BASIC_QUANTITIES:
        check_quantities(first, quantities)
    began = time.perf_counter()
    fingerprint = {
        "model": vlm.sha256,
        "precision": compute_dtype(vlm),
        **draw.fingerprint,
        "quantities": sorted(quantities),
        **({} if keys is None else {"keys": sorted(keys)}),
    }
    kinds = list(draw.task.kinds)

    def read(indices: list[int]) -> dict[str, Tensor]:
        drawn = draw.take(indices)
        found = read_heads(vlm, vlm.encode(drawn), quantities)
        if keys is not None:
            found = replace(found, scores={check_known("score", key, found.scores): found.scores[key] for key in keys})
        return {**found.tensors(), "kind": torch.tensor([kinds.index(sample.kind) for sample in drawn])}

    def batches(indices: list[int]) -> list[list[int]]:
        return draw.batches(batch_size, indices)

    everything = collect_share(read, draw.samples, batches, fingerprint, store, progress, process)
    return None if everything is None else Measurement.of(everything, time.perf_counter() - began)


def summarise_heads(
    vlm: VLM, draw: Draw, found: Measurement, *, metric: Metric = PRIMARY, level: float = 0.95
) -> HeadScores:
    """The scores of one metric: the mean over samples, its bootstrap interval (pictures are drawn anew), and how well
    the ranking repeats itself on halves of the samples. Of a model with sliding windows, only heads count that reach
    the evidence of all samples (`reach.py`).

    Raises: BadInput if there are none.
    """
    values = found.scores[metric.key].numpy()
    count = len(values)
    clusters = draw.clusters if count == draw.samples else None  # one kind of question alone: see `Measurement.of_kind`
    several = count > 1 and (clusters is None or draw.pictures > 1)
    interval = bootstrap_interval(values, clusters=clusters, level=level, seed=draw.seed) if several else None
    low, high = interval or (values.mean(0), values.mean(0))
    facts = replace(vlm.facts, reach=None if found.reach is None else common_reach(found.reach))
    counted = values if facts.reach is None else values[:, list(facts.reach)]
    reliable = count >= ENOUGH_FOR_HALVES and np.ptp(counted.mean(0)) > 0
    raw = metric.quantity == "raw"
    return HeadScores(
        model=facts,
        task=replace(draw.facts(accuracy=found.accuracy), samples=count),
        metric=MetricFacts(metric.quantity, metric.rows, metric.reduce),
        values=values.mean(0, dtype=np.float64).tolist(),
        interval=Interval(level, low.tolist(), high.tolist()),
        chance=found.chance[f"{metric.rows}/{metric.reduce}"].double().mean().item() if raw else None,
        reliability=split_half(counted, seed=draw.seed) if reliable else None,
        seconds=round(found.seconds, 2),
    )


def score_batches(
    vlm: VLM, batches: Iterable[Batch], *, metric: Metric = PRIMARY, level: float = 0.95, seed: int = 0
) -> HeadScores:
    """The same of batches that you made yourself (`VLM.from_inputs`): the mean over all their sequences, each of which
    counts as independent of the others.

    Raises: BadInput if there is no batch, a sequence has no evidence, or no layer reaches all of it.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> batch = vlm.encode(task("scenes").draw("select", samples=4))
    >>> score_batches(vlm, [batch]).task.samples
    4
    """
    began, parts, domains = time.perf_counter(), [], set()
    for batch in batches:
        if not batch.evidence.any(1).all():
            raise BadInput("a sequence has no evidence: give the boxes of each of them")
        parts.append(read_heads(vlm, batch, [metric.quantity]).tensors())
        domains |= {sample.domain for sample in batch.samples}
    if not parts:
        raise BadInput("there is no batch: give one or more")
    found = Measurement.of({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    values = found.scores[metric.key].numpy()
    low, high = bootstrap_interval(values, level=level, seed=seed) if len(values) > 1 else (values[0], values[0])
    return HeadScores(
        model=replace(vlm.facts, reach=None if found.reach is None else common_reach(found.reach)),
        task=TaskFacts("+".join(sorted(domains)), "select", seed, len(values), accuracy=found.accuracy),
        metric=MetricFacts(metric.quantity, metric.rows, metric.reduce),
        values=values.mean(0, dtype=np.float64).tolist(),
        interval=Interval(level, low.tolist(), high.tolist()),
        chance=found.chance[f"{metric.rows}/{metric.reduce}"].double().mean().item()
        if metric.quantity == "raw"
        else None,
        seconds=round(time.perf_counter() - began, 2),
    )


def score_heads(vlm: VLM, draw: Draw, *, metric: Metric = PRIMARY, level: float = 0.95, **options: Any) -> HeadScores:
    """The score of every head, by default Retrieval Attention Mass (RAM): the attention that a head, at the rows that
    predict the answer, pays to the visual tokens that hold it, as a mean over the samples of `draw`.

        RAM[l, h] = mean over samples of mean_{q ∈ answer rows} Σ_{k ∈ evidence} A[l, h, q, k]

    `options` are those of `measure_heads`. Source: arXiv 2606.05843; the choice of rows and the means are ours.

    Raises: BadInput in one of several processes: there, call `measure_heads` and `summarise_heads`.

    >>> from corelib import load, task
    >>> scores = score_heads(load("mini-s"), task("scenes").draw("select", samples=4))
    >>> scores.task.samples, scores.shape
    (4, (6, 8))
    """
    found = measure_heads(vlm, draw, quantities=[metric.quantity], keys=[metric.key], **options)
    if found is None:
        raise BadInput("one of several processes: call measure_heads, and summarise_heads in the first process")
    return summarise_heads(vlm, draw, found, metric=metric, level=level)
