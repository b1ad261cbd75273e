"""Profile the heads of a model on a task: a score of every head, sample by sample, then its mean with an interval.

    found = measure(vlm, task("scenes"), samples=256)          # all samples, resumable
    scores = summarise(vlm, task("scenes"), found, metric=metric("raw"), split="select", seed=0)

`score_heads` does both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corelib.analysis.agreement import split_half
from corelib.analysis.stats import bootstrap_interval
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import HeadScores
from corelib.core.results import software
from corelib.core.sample_store import collect, in_batches
from corelib.experiments.reading import BASIC_QUANTITIES, Measurement, check_quantities, read_heads
from corelib.metrics.catalogue import PRIMARY, Metric
from corelib.models.vlm import VLM
from corelib.tasks import RETRIEVING, UNTRAINED, Task

ENOUGH_FOR_HALVES = 16  # samples


def measure_heads(
    vlm: VLM,
    task: Task,
    *,
    split: str = "select",
    samples: int = 256,
    seed: int = 0,
    batch_size: int | None = None,
    quantities: Sequence[str] = BASIC_QUANTITIES,
    keys: Sequence[str] | None = None,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    process: tuple[int, int] = (0, 1),
) -> Measurement | None:
    """Measure `samples` samples, `batch` at once (left out: `vlm.batch_size`); with a `store`, go on where an earlier,
    killed run stopped. `keys`: of the scores (`"answer/mean/raw"`), keep only these. `share` is of several processes
    that fill one store (`distributed.py`): all but the first one do their part and give None."""
    batch_size = vlm.batch_size if batch_size is None else batch_size
    if samples < 1 or batch_size < 1:
        raise BadInput(f"samples and batch must be 1 or more, got samples={samples}, batch={batch_size}")
    first = task.sample(split, seed, 0)
    if not first.evidence and not first.spans:
        allowed = ", ".join((*RETRIEVING, *UNTRAINED))
        raise BadInput(f"{task.name} has no evidence: choose a task that has ({allowed})")
    if tuple(quantities) != BASIC_QUANTITIES:
        check_quantities(first, quantities)
    began = time.perf_counter()
    fingerprint = {
        "model": vlm.sha256,
        "precision": str(vlm.model.dtype),
        "task": repr(task),
        "split": split,
        "seed": seed,
        "quantities": sorted(quantities),
        **({} if keys is None else {"keys": sorted(keys)}),
    }
    kinds = list(task.kinds)

    def read(indices: list[int]) -> dict[str, Tensor]:
        drawn = [task.sample(split, seed, index) for index in indices]
        found = read_heads(vlm, vlm.encode(drawn), quantities)
        if keys is not None:
            found = replace(found, scores={check_known("score", key, found.scores): found.scores[key] for key in keys})
        return {**found.tensors(), "kind": torch.tensor([kinds.index(sample.kind) for sample in drawn])}

    everything = collect(read, samples, in_batches(batch_size), fingerprint, store, progress, process)
    return None if everything is None else Measurement.of(everything, time.perf_counter() - began)


def summarise_heads(
    vlm: VLM,
    task: Task,
    found: Measurement,
    *,
    split: str,
    seed: int,
    metric: Metric = PRIMARY,
    level: float = 0.95,
) -> HeadScores:
    """The head-scores file of one metric: the mean over samples, its bootstrap interval, and how well the ranking
    repeats itself on halves of the samples."""
    values = found.scores[metric.key].numpy()
    count = len(values)
    low, high = bootstrap_interval(values, level=level, seed=seed) if count > 1 else (values[0], values[0])
    reliable = count >= ENOUGH_FOR_HALVES and np.ptp(values.mean(0)) > 0
    raw = metric.quantity == "raw"
    return HeadScores(
        model=vlm.facts,
        task={
            **task.facts,
            "split": split,
            "seed": seed,
            "samples": count,
            "accuracy": found.accuracy,
        },
        metric={"quantity": metric.quantity, "rows": metric.rows, "reduce": metric.reduce},
        scores=values.mean(0, dtype=np.float64).tolist(),
        interval={"level": level, "low": low.tolist(), "high": high.tolist()},
        chance=found.chance[f"{metric.rows}/{metric.reduce}"].double().mean().item() if raw else None,
        reliability=asdict(split_half(values, seed=seed)) if reliable else None,
        software=software(),
        seconds=round(found.seconds, 2),
    )


def score_heads(
    vlm: VLM,
    task: Task,
    *,
    split: str = "select",
    seed: int = 0,
    metric: Metric = PRIMARY,
    level: float = 0.95,
    **options,
) -> HeadScores:
    """Measure and summarise in one call; `options` are those of `measure_heads`.

    >>> from corelib import load, task
    >>> scores = score_heads(load("mini-s"), task("scenes"), samples=4)
    >>> scores.task["samples"], len(scores.scores), len(scores.scores[0])
    (4, 6, 8)
    """
    wanted = {"quantities": [metric.quantity], "keys": [metric.key]}
    found = measure_heads(vlm, task, split=split, seed=seed, **wanted, **options)
    return summarise_heads(vlm, task, found, split=split, seed=seed, metric=metric, level=level)
