"""Which score of heads tells whose gaze the answer follows? A target that is about looking, unlike an ablation.

    found = measure_gaze_effects(vlm, draw, {"RAM": ram, "output norm": norm}, main="RAM")
    found.agreement["RAM"], found.moved["RAM"], found.ahead["output norm"].moved

Two effects of moving the gaze from the evidence to another object (`redirection.py`):

    alone   of one head: what the right answer's log-probability loses, in nats
    moved   of the top 5 % of a score: the share of answers that become the other object's

A score predicts well if its ranks go with the first (Spearman's correlation over all heads), and the second is large.
How far the `main` score is ahead of each other one is told with an interval of the paired difference, over pictures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from corelib.analysis.stats import bootstrap_interval, estimate
from corelib.core.errors import BadInput, check_known
from corelib.core.head_scores import ordered
from corelib.core.heads import HeadSet, top_count
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.sample_store import collect
from corelib.core.values import Estimate, ModelFacts, Software, Table, TaskFacts
from corelib.experiments.answer_sweep import Resampling, check_pictures, compute_dtype
from corelib.experiments.head_effects import Scores
from corelib.experiments.reach import require_reach
from corelib.experiments.redirecting import Intervention, Redirecting
from corelib.experiments.rivals import Asked, rival_pairs
from corelib.models.vlm import VLM
from corelib.tasks import Draw
from corelib.tasks.draw import TOGETHER


@dataclass(frozen=True)
class Ahead:
    """The main score less another one, paired."""

    alone: Estimate  # of rank correlations
    moved: Estimate  # of shares


@dataclass(frozen=True, repr=False)
class GazeEffects(Result):
    """What moving the gaze of each head does, and how well scores predict it."""

    schema: ClassVar[str] = "corelib/gaze-effects/1"

    model: ModelFacts
    task: TaskFacts  # counted: questions with a rival that are answered rightly
    level: float
    main: str
    alone: Table  # [layer][head], nats lost
    agreement: dict[str, Estimate]  # by score
    moved: dict[str, Estimate]  # by score, of its top 5 %
    ahead: dict[str, Ahead]  # by each other score
    software: Software
    seconds: float


def measure_gaze_effects(
    vlm: VLM,
    draw: Draw,
    scores: Mapping[str, Scores],
    *,
    main: str,
    fraction: float = 0.05,
    batch_size: int = 32,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> GazeEffects:
    """Move the gaze of every head, and of the top of every score ([layer][head], higher is better).

    Raises: BadInput if a score has another shape, too few questions are answered rightly, or some heads do not reach
    the evidence; UnknownName if `main` is none of the scores.
    """
    began = time.perf_counter()
    check_known("score", main, scores)
    check_pictures(draw)
    require_reach(vlm, draw, batch_size)
    tables = {name: np.asarray(table, dtype=float) for name, table in scores.items()}
    for name, table in tables.items():
        if table.shape != (vlm.num_layers, vlm.num_heads) or not np.isfinite(table).all():
            raise BadInput(f"the score {name!r} has shape {table.shape}: give one finite number for each head")
    every = HeadSet.all(vlm.num_layers, vlm.num_heads)
    count = top_count(fraction, len(every))
    tops = {name: HeadSet(ordered(table)[:count]) for name, table in tables.items()}
    lost, moved, counted = _swept(vlm, draw, every, list(dict.fromkeys(tops.values())), batch_size, store, progress)
    if counted.sum() < 2:
        raise BadInput(f"{int(counted.sum())} questions with a rival are answered rightly: ask for more samples")
    lost, place = lost[counted], {one: k for k, one in enumerate(dict.fromkeys(tops.values()))}
    by_score = {name: moved[counted][:, place[one]] for name, one in tops.items()}
    clusters = [one for one, counts in zip(draw.clusters, counted, strict=True) if counts]
    interval = partial(bootstrap_interval, clusters=clusters, level=level, seed=draw.seed)
    agreement, ahead_alone = _agreements(lost, tables, main, interval)
    return GazeEffects(
        model=vlm.facts,
        task=draw.facts(questions=draw.questions, counted=int(counted.sum())),
        level=level,
        main=main,
        alone=tuple(
            tuple(float(f"{x:.4g}") for x in row) for row in lost.mean(0).reshape(vlm.num_layers, vlm.num_heads)
        ),
        agreement=agreement,
        moved={name: estimate(values, interval) for name, values in by_score.items()},
        ahead={
            name: Ahead(ahead_alone[name], estimate(by_score[main] - values, interval))
            for name, values in by_score.items()
            if name != main
        },
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def _agreements(
    lost: Float[np.ndarray, "sample head"], tables: Mapping[str, np.ndarray], main: str, interval: Resampling
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Spearman's correlation of each score with the effects alone, and how far the main one is ahead of each."""
    names = list(tables)
    ranks = np.array([rankdata(table) - (table.size + 1) / 2 for table in tables.values()])
    ranks /= np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-12)

    def correlations(effect: Float[np.ndarray, " head"]) -> Float[np.ndarray, " score"]:
        other = rankdata(effect) - (len(effect) + 1) / 2
        found: np.ndarray = ranks @ other / max(np.linalg.norm(other), 1e-12)
        return np.concatenate([found, found[names.index(main)] - found])

    value, (low, high) = correlations(lost.mean(0)), interval(lost, statistic=correlations)
    every = [Estimate(*map(float, one)) for one in zip(value, low, high, strict=True)]
    return dict(zip(names, every, strict=False)), dict(zip(names, every[len(names) :], strict=True))


def _swept(
    vlm: VLM,
    draw: Draw,
    every: HeadSet,
    sets: list[HeadSet],
    batch_size: int,
    store: str | Path | None,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nats lost, [sample, head]; moved, [sample, set]; and which samples count."""
    fingerprint = {
        "model": vlm.sha256,
        "precision": compute_dtype(vlm),
        **draw.fingerprint,
        "gaze effects": [one.to_json() for one in sets],
    }

    def measure(indices: list[int]) -> dict[str, Tensor]:
        lost = torch.zeros(len(indices), len(every))
        moved = torch.zeros(len(indices), len(sets), dtype=torch.bool)
        counted = torch.zeros(len(indices), dtype=torch.bool)
        pairs = rival_pairs(draw.take(indices))
        if pairs:
            apart = Asked.of(vlm, pairs).apart.tolist()
            pairs = [pair for pair, one in zip(pairs, apart, strict=True) if one]
        if pairs:
            places = torch.tensor([pair.index for pair in pairs])
            under = Redirecting.of(vlm, draw, pairs)
            counted[places] = under.plain()
            plain = under.logprob()
            for number, head in enumerate(every):
                lost[places, number] = plain - under.logprob(Intervention(HeadSet([head])))
            for number, one in enumerate(sets):
                moved[places, number] = under(Intervention(one))[0]
        return {"lost": lost, "moved": moved, "counted": counted}

    batches = partial(draw.batches, batch_size, together=TOGETHER)
    found = collect(measure, draw.samples, batches, fingerprint, store, progress)
    return found["lost"].double().numpy(), found["moved"].double().numpy(), found["counted"].numpy()
