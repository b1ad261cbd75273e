"""Profile the heads of a model on a task: Retrieval Attention Mass of every head, sample by sample.

One forward pass a sample gives every variant, every choice of query rows and both reductions. Attention is reduced as
soon as it is computed and never kept; what is kept, in memory and in the store, is one number a
(sample, quantity, layer, head).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from corelib.encoded import ROWS, Encoded
from corelib.errors import BadInput, check_known
from corelib.heads import HeadScores
from corelib.metrics.ram import REDUCTIONS, VARIANTS, Regions, chance, mass, reduce_rows, variant, visible_keys
from corelib.record import record, row_index
from corelib.results import software
from corelib.stats import bootstrap_interval
from corelib.store import SampleStore
from corelib.tasks import RETRIEVING, UNTAUGHT, Task
from corelib.vlm import VLM


def check_metric(variant: str, rows: str, reduce: str) -> None:
    """Refuse an unknown name before anything is measured, not after."""
    check_known("variant of RAM", variant, VARIANTS)
    check_known("query rows", rows, ROWS)
    check_known("reduction", reduce, REDUCTIONS)


@dataclass(frozen=True)
class Measurement:
    """Per-sample numbers of one model on one task, in the order of the samples' indices.

    `scores["answer/mean/raw"]` is [sample, layer, head]; `chance["answer/mean"]` is [sample].
    """

    scores: dict[str, Float[Tensor, "sample layer head"]]
    chance: dict[str, Float[Tensor, " sample"]]
    correct: Bool[Tensor, " sample"]
    logprob: Float[Tensor, " sample"]
    seconds: float = field(default=0.0, compare=False)

    def tensors(self) -> dict[str, Tensor]:
        """All of it as tensors by name, [sample, …]: what a store keeps."""
        scores = {f"scores/{key}": value for key, value in self.scores.items()}
        by_chance = {f"chance/{key}": value for key, value in self.chance.items()}
        return {**scores, **by_chance, "correct": self.correct, "logprob": self.logprob}

    @classmethod
    def of(cls, tensors: dict[str, Tensor], seconds: float) -> Measurement:
        """The way back from `tensors()`."""
        scores, by_chance = (
            {key.removeprefix(kind): value for key, value in tensors.items() if key.startswith(kind)}
            for kind in ("scores/", "chance/")
        )
        return cls(scores, by_chance, tensors["correct"], tensors["logprob"], seconds)

    @property
    def accuracy(self) -> float:
        return self.correct.float().mean().item()


def read_heads(vlm: VLM, encoded: Encoded) -> Measurement:
    """Every quantity × rows × reduction of one encoded batch, from one forward pass."""
    wanted = {name: encoded.rows(name) for name in ROWS}
    union = torch.stack(list(wanted.values())).any(0)
    index, real = row_index(union)
    regions = Regions(encoded.evidence, encoded.source, encoded.distractors)
    quantities = [name for name in VARIANTS if name != "contrast" or encoded.distractors.shape[1]]

    def reduce(layer: int, attention: Float[Tensor, "batch head row key"]) -> Float[Tensor, "batch head row quantity"]:
        read = [variant(name)(attention, regions) for name in quantities]
        return torch.stack([*read, mass(attention, encoded.source)], -1)

    with record(vlm.model, union, reduce=reduce) as tape:
        answers = vlm.answer(encoded)
    rows = tape.stack().permute(4, 1, 0, 2, 3)  # [quantity, batch, layer, head, row]
    expected = chance(encoded.evidence, visible_keys(encoded.real, index))  # [batch, row]
    scores, by_chance = {}, {}
    for name, mask in wanted.items():
        mine = mask.gather(1, index) & real
        for how in REDUCTIONS:
            for quantity, values in zip([*quantities, "visual"], rows, strict=True):
                batch, layers, heads, count = values.shape
                flat = reduce_rows(values.reshape(batch, layers * heads, count), mine, how)
                scores[f"{name}/{how}/{quantity}"] = flat.reshape(batch, layers, heads)
            by_chance[f"{name}/{how}"] = reduce_rows(expected[:, None], mine, how)[:, 0]
    return Measurement(scores, by_chance, answers.correct, answers.logprob)


def measure(
    vlm: VLM,
    work: Task,
    *,
    split: str = "select",
    samples: int = 256,
    seed: int = 0,
    batch: int = 32,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measurement:
    """Measure `samples` samples; with a `store`, go on where an earlier, killed run stopped."""
    if samples < 1 or batch < 1:
        raise BadInput(f"samples and batch must be 1 or more, got samples={samples}, batch={batch}")
    first = work.sample(split, seed, 0)
    if not first.evidence and not first.spans:
        allowed = ", ".join((*RETRIEVING, *UNTAUGHT))
        raise BadInput(f"{work.name} has no evidence: choose a task that has ({allowed})")
    began = time.perf_counter()
    fingerprint = {"model": vlm.sha256, "task": repr(work), "split": split, "seed": seed}
    kept = SampleStore(store, fingerprint) if store is not None else None
    done = set(kept.done) if kept else set()
    todo = [index for index in range(samples) if index not in done]
    parts: list[dict[str, Tensor]] = []
    progress(samples - len(todo), samples)
    for start in range(0, len(todo), batch):
        indices = todo[start : start + batch]
        found = read_heads(vlm, vlm.encode([work.sample(split, seed, index) for index in indices]))
        if kept:
            kept.add(indices, found.tensors())
        else:
            parts.append(found.tensors())
        progress(samples - len(todo) + start + len(indices), samples)
    if kept:
        everything = {key: value[:samples] for key, value in kept.load().items()}
    else:
        everything = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return Measurement.of(everything, time.perf_counter() - began)


def summarise(
    vlm: VLM,
    work: Task,
    found: Measurement,
    *,
    split: str,
    seed: int,
    variant: str = "raw",
    rows: str = "answer",
    reduce: str = "mean",
    level: float = 0.95,
) -> HeadScores:
    """The head-scores file of one quantity: the mean over samples, and its bootstrap interval."""
    check_metric(variant, rows, reduce)
    values = found.scores[f"{rows}/{reduce}/{variant}"].numpy()
    low, high = bootstrap_interval(values, level=level, seed=seed) if len(values) > 1 else (values[0], values[0])
    return HeadScores(
        model=vlm.facts,
        task={
            "domain": work.name,
            "split": split,
            "seed": seed,
            "samples": len(values),
            "accuracy": found.accuracy,
        },
        metric={"name": "ram", "variant": variant, "rows": rows, "reduce": reduce},
        scores=values.mean(0, dtype=np.float64).tolist(),
        interval={"level": level, "low": low.tolist(), "high": high.tolist()},
        chance=found.chance[f"{rows}/{reduce}"].double().mean().item() if variant == "raw" else None,
        software=software(),
        seconds=round(found.seconds, 2),
    )


def profile(
    vlm: VLM,
    work: Task,
    *,
    split: str = "select",
    seed: int = 0,
    variant: str = "raw",
    rows: str = "answer",
    reduce: str = "mean",
    level: float = 0.95,
    **options,
) -> HeadScores:
    """Measure and summarise in one call; `options` are those of `measure`.

    >>> from corelib import load, task
    >>> scores = profile(load("mini-s"), task("scenes"), samples=4)
    >>> scores.task["samples"], len(scores.scores), len(scores.scores[0])
    (4, 6, 8)
    """
    check_metric(variant, rows, reduce)
    found = measure(vlm, work, split=split, seed=seed, **options)
    metric = {"variant": variant, "rows": rows, "reduce": reduce}
    return summarise(vlm, work, found, split=split, seed=seed, level=level, **metric)
