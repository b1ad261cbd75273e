"""Along which paths does the answer travel? Cut one kind of look in a few layers at a time, and see what is lost.

    evidence → question     the rows of the question may not see the evidence
    evidence → answer       the rows that predict the answer may not see it
    question → answer       the rows that predict the answer may not see the question (they still see themselves)
    elsewhere → answer      a control: those rows may not see the rest of the pictures

The last token of the question is the first row that predicts the answer: it counts there. Where a cut hurts, something
travels there that no other layer brings. Losses of log-probability, in nats.

Source: attention knockout, Geva et al. (2023), arXiv:2304.14767.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from corelib.analysis.stats import bootstrap_interval
from corelib.attention.intervene import knockout
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.core.results import Result, software
from corelib.core.sample_store import collect, in_batches
from corelib.experiments.answer_sweep import compute_dtype
from corelib.models.answers import stacked
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.from_question import replay_from_question
from corelib.tasks import Task

PATHS = ("evidence → question", "evidence → answer", "question → answer", "elsewhere → answer")
WINDOWS = 6  # a window is about a sixth of all layers: nearby layers stand in for each other


@dataclass(frozen=True)
class PathKnockouts(Result):
    """What each cut costs, by the first layer of its window."""

    schema: ClassVar[str] = "corelib/paths/1"

    model: dict  # as in head scores
    task: dict  # domain, split, seed, samples
    level: float  # of all intervals
    window: int  # layers
    base: dict  # accuracy, logprob of the plain model
    first: list[int]  # layers at which windows begin
    lost: dict[str, dict]  # path → logprob, accuracy, low, high at each window (intervals of logprob)
    everywhere: dict[str, dict]  # path → the same for a cut in all layers
    software: dict
    seconds: float


def path_masks(encoded: Batch, path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys that are hidden on a path, and the rows they are hidden from."""
    question, answer = encoded.rows("question"), encoded.rows("answer")
    question = question & ~answer
    hidden = {
        "evidence → question": encoded.evidence,
        "evidence → answer": encoded.evidence,
        "question → answer": question,
        "elsewhere → answer": encoded.source & ~encoded.evidence,
    }
    if path not in hidden:
        raise BadInput(f"no path {path!r}; there are: {', '.join(PATHS)}")
    return hidden[path], question if path.endswith("question") else answer


def knock_out_paths(
    vlm: VLM,
    task: Task,
    *,
    window: int | None = None,
    split: str = "test",
    seed: int = 0,
    samples: int = 256,
    batch_size: int = 64,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PathKnockouts:
    """Cut every path in every window of layers, and in all layers."""
    began = time.perf_counter()
    window = max(1, round(vlm.num_layers / WINDOWS)) if window is None else window
    if not 1 <= window <= vlm.num_layers:
        raise BadInput(f"a window of {window} layers in a model of {vlm.num_layers}: give 1 to {vlm.num_layers}")
    if samples < 2 or batch_size < 1:
        raise BadInput(f"samples must be 2 or more and batch 1 or more, got samples={samples}, batch={batch_size}")
    first = list(range(vlm.num_layers - window + 1))
    spans = [*((start, start + window) for start in first), (0, vlm.num_layers)]
    facts = {"split": split, "seed": seed, "samples": samples}
    fingerprint = {"model": vlm.sha256, "precision": compute_dtype(vlm), "task": repr(task)}
    fingerprint |= {"split": split, "seed": seed, "window": window}

    def answer(indices: list[int]) -> dict[str, torch.Tensor]:
        return _under(vlm, vlm.encode([task.sample(split, seed, index) for index in indices]), spans)

    found = collect(answer, samples, in_batches(batch_size), fingerprint, store, progress)
    whole = {name: value.double().numpy() for name, value in found.items()}
    plain = {name: whole[f"plain {name}"] for name in ("correct", "logprob")}
    lost = {name: plain[name][:, None, None] - whole[name] for name in plain}
    interval = partial(bootstrap_interval, level=level, seed=seed)
    tables = {path: _table(lost, number, interval) for number, path in enumerate(PATHS)}
    return PathKnockouts(
        model=vlm.facts,
        task={**task.facts, **facts},
        level=level,
        window=window,
        base={"accuracy": float(plain["correct"].mean()), "logprob": float(plain["logprob"].mean())},
        first=first,
        lost={path: {name: values[:-1] for name, values in table.items()} for path, table in tables.items()},
        everywhere={path: {name: values[-1] for name, values in table.items()} for path, table in tables.items()},
        software={**software(), "precision": compute_dtype(vlm)},
        seconds=round(time.perf_counter() - began, 2),
    )


def _under(vlm: VLM, encoded: Batch, spans: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
    """`correct` and `logprob`, [sample, path, span], and those of the plain model."""
    answer = replay_from_question(vlm, encoded)
    plain, found = answer(), []
    for path in PATHS:
        hidden, rows = path_masks(encoded, path)
        for start, stop in spans:
            heads = HeadSet((layer, head) for layer in range(start, stop) for head in range(vlm.num_heads))
            with knockout(vlm.model, hidden, rows, heads):
                found.append(answer())
    under = stacked(found)
    correct, logprob = (each.T.unflatten(1, (len(PATHS), -1)) for each in (under.correct, under.logprob))
    return {"plain correct": plain.correct, "plain logprob": plain.logprob, "correct": correct, "logprob": logprob}


def _table(lost: dict[str, np.ndarray], number: int, interval: Callable) -> dict[str, list[float]]:
    mine = {name: values[:, number] for name, values in lost.items()}
    low, high = interval(mine["logprob"])
    numbers = {"logprob": mine["logprob"].mean(0), "low": low, "high": high, "accuracy": mine["correct"].mean(0)}
    return {name: values.tolist() for name, values in numbers.items()}
