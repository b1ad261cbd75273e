"""Along which paths does the answer travel? Knock one kind of look out in a few layers at a time, and see what is lost.

    evidence → question     the rows of the question may not see the evidence
    evidence → answer       the rows that predict the answer may not see it
    question → answer       the rows that predict the answer may not see the question (they still see themselves)
    elsewhere → answer      a control: those rows may not see the rest of the pictures

The last token of the question is the first row that predicts the answer: it counts there. Where a knockout hurts,
something travels there that no other layer brings. Losses of log-probability, in nats.

Source: attention knockout, Geva et al. (2023), arXiv:2304.14767.
"""

from __future__ import annotations

import time
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
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.sample_store import collect
from corelib.core.values import Estimate, ModelFacts, Software, TaskFacts
from corelib.experiments.answer_sweep import Resampling, check_pictures, compute_dtype
from corelib.experiments.head_effects import Plain
from corelib.models.answers import stacked
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.from_question import replay_from_question
from corelib.tasks import Draw

PATHS = ("evidence → question", "evidence → answer", "question → answer", "elsewhere → answer")
WINDOWS = 6  # a window is about a sixth of all layers: nearby layers stand in for each other


@dataclass(frozen=True)
class PathLoss:
    """What a knockout costs in all layers; intervals are of the log-probability, in nats."""

    logprob: float
    low: float
    high: float
    accuracy: float

    @property
    def estimate(self) -> Estimate:
        """The log-probability lost."""
        return Estimate(self.logprob, self.low, self.high)


@dataclass(frozen=True)
class PathCurve:
    """What a knockout costs, by the first layer of its window."""

    logprob: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True, repr=False)
class PathKnockouts(Result):
    """What each knockout costs, by the first layer of its window."""

    schema: ClassVar[str] = "corelib/paths/1"

    model: ModelFacts
    task: TaskFacts
    level: float  # of all intervals
    window: int  # layers
    base: Plain
    first: tuple[int, ...]  # layers at which windows begin
    lost: dict[str, PathCurve]  # by path
    everywhere: dict[str, PathLoss]  # by path: a knockout in all layers
    software: Software
    seconds: float


def path_masks(batch: Batch, path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys that are hidden on a path, and the rows they are hidden from.

    Raises: BadInput if there is no such path.
    """
    question, answer = batch.rows("question"), batch.rows("answer")
    question = question & ~answer
    hidden = {
        "evidence → question": batch.evidence,
        "evidence → answer": batch.evidence,
        "question → answer": question,
        "elsewhere → answer": batch.source & ~batch.evidence,
    }
    if path not in hidden:
        raise BadInput(f"no path {path!r}; there are: {', '.join(PATHS)}")
    return hidden[path], question if path.endswith("question") else answer


def knock_out_paths(
    vlm: VLM,
    draw: Draw,
    *,
    window: int | None = None,
    batch_size: int = 64,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> PathKnockouts:
    """Knock every path out in every window of layers, and in all layers. Take one question a picture.

    `window`: left out, about a sixth of all layers, at least one. Losses are plain − knocked out, paired by samples.

    Raises: BadInput if the window has more layers than the model, or if there are fewer than two pictures.
    """
    began = time.perf_counter()
    window = max(1, round(vlm.num_layers / WINDOWS)) if window is None else window
    if not 1 <= window <= vlm.num_layers:
        raise BadInput(f"a window of {window} layers in a model of {vlm.num_layers}: give 1 to {vlm.num_layers}")
    check_pictures(draw)
    first = tuple(range(vlm.num_layers - window + 1))
    spans = [*((start, start + window) for start in first), (0, vlm.num_layers)]
    fingerprint = {"model": vlm.sha256, "precision": compute_dtype(vlm), **draw.fingerprint, "window": window}

    def answer(indices: list[int]) -> dict[str, torch.Tensor]:
        return _under(vlm, vlm.encode(draw.take(indices)), spans)

    found = collect(answer, draw.samples, partial(draw.batches, batch_size), fingerprint, store, progress)
    whole = {name: value.double().numpy() for name, value in found.items()}
    plain = {name: whole[f"plain {name}"] for name in ("correct", "logprob")}
    lost = {name: plain[name][:, None, None] - whole[name] for name in plain}
    interval = partial(bootstrap_interval, clusters=draw.clusters, level=level, seed=draw.seed)
    tables = {path: _table(lost, number, interval) for number, path in enumerate(PATHS)}
    return PathKnockouts(
        model=vlm.facts,
        task=draw.facts(),
        level=level,
        window=window,
        base=Plain(float(plain["correct"].mean()), float(plain["logprob"].mean())),
        first=first,
        lost={path: PathCurve(**{name: values[:-1] for name, values in mine.items()}) for path, mine in tables.items()},
        everywhere={
            path: PathLoss(**{name: values[-1] for name, values in mine.items()}) for path, mine in tables.items()
        },
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def _under(vlm: VLM, batch: Batch, spans: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
    """`correct` and `logprob`, [sample, path, span], and those of the plain model."""
    answer = replay_from_question(vlm, batch)
    plain, found = answer(), []
    for path in PATHS:
        hidden, rows = path_masks(batch, path)
        for start, stop in spans:
            heads = HeadSet((layer, head) for layer in range(start, stop) for head in range(vlm.num_heads))
            with knockout(vlm.model, hidden, rows, heads):
                found.append(answer())
    under = stacked(found)
    correct, logprob = (each.T.unflatten(1, (len(PATHS), -1)) for each in (under.correct, under.logprob))
    return {"plain correct": plain.correct, "plain logprob": plain.logprob, "correct": correct, "logprob": logprob}


def _table(lost: dict[str, np.ndarray], number: int, interval: Resampling) -> dict[str, tuple[float, ...]]:
    mine = {name: values[:, number] for name, values in lost.items()}
    low, high = interval(mine["logprob"])
    numbers = {"logprob": mine["logprob"].mean(0), "low": low, "high": high, "accuracy": mine["correct"].mean(0)}
    return {name: tuple(values.tolist()) for name, values in numbers.items()}
