"""At which rows, and how, should RAM be read where answers have several tokens? Rank by each way, move the gaze of the
heads on top, and see which ranking takes most answers along.

    found = compare_reductions(load("mini-s"), draw, ranking)      # test samples, and those that rank
    found.ways["max"].moved, found.ways["max"].difference          # its answers moved; minus those of the mean

mean           the mean over the answer's rows: RAM as this book defines it
max            the largest of the answer's rows
own part       each of the answer's rows against the tokens that touch its part of the evidence, then the mean
last           the prompt's last row alone
question       the mean over the question's rows
object or answer   the largest of the answer's rows and of the last word of the question
question − null    the mean over the question's rows, minus the same under a null question (as MMRetHeads,
                   arXiv 2605.27243, and QRHead, arXiv 2506.09944, do)

A head that fetches one of three digits is capped at 1/3 by the mean. The last but one way reads the rows that
redirection of single rows had found to carry the answer. Where an answer is one token, the first four are the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from corelib.analysis.stats import bootstrap_interval
from corelib.attention.interface import AttentionCall
from corelib.attention.record import record, row_index
from corelib.core.errors import BadInput, check_known
from corelib.core.head_scores import ordered
from corelib.core.heads import ROWS, Heads, HeadSet, top_count
from corelib.core.html import card, rows
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.sample_store import collect
from corelib.core.values import Accuracy, Estimate, ModelFacts, Software, TaskFacts
from corelib.experiments.answer_parts import answer_parts
from corelib.experiments.answer_sweep import check_pictures, compute_dtype
from corelib.experiments.redirecting import Intervention, redirect_sweep
from corelib.metrics.ram import mass, null_calibrated, reduce_rows
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.tasks import Draw

WAYS = ("mean", "max", "own part", "last", "question", "object or answer", "question − null")
MEAN = WAYS[0]


@dataclass(frozen=True)
class Way:
    """One way to rank: its heads, and how many answers follow their gaze."""

    heads: Heads
    moved: Estimate
    difference: Estimate  # minus the share that the heads by the mean move, sample by sample


@dataclass(frozen=True, repr=False)
class Reductions(Result):
    """What heads move that were ranked in several ways, on the same samples."""

    schema: ClassVar[str] = "corelib/reductions/1"

    model: ModelFacts
    task: TaskFacts  # counted: questions with a rival that are answered rightly
    ranked: TaskFacts  # the samples that ranked
    fraction: float
    level: float  # of all intervals
    base: Accuracy
    ways: dict[str, Way]
    software: Software
    seconds: float

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {way.moved.value:.2f}" for name, way in self.ways.items())
        return f"Reductions({self.model.shown} on {self.task.shown}: {told})"

    def _repr_html_(self) -> str:
        table = [(name, way.heads, way.moved, way.difference) for name, way in self.ways.items()]
        title = f"ways to read RAM: {self.model.shown} on {self.task.shown}"
        return card(title, rows(table, ("way", "heads", "moved", "minus the mean's")))


@torch.no_grad()
def read_reductions(vlm: VLM, batch: Batch) -> dict[str, Float[Tensor, "sample layer head"]]:
    """Every sample's RAM, read in every way.

    Raises: BadInput if the questions cannot be neutral (`VLM.null_question`), BadRegion if a sample has no evidence.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> found = read_reductions(vlm, vlm.encode(task("documents").samples("validate", 0, 2)))
    >>> found["max"].shape, bool((found["max"] >= found["mean"]).all())
    (torch.Size([2, 6, 8]), True)
    """
    parts, _ = answer_parts(batch, shared=True)
    regions = torch.cat([batch.evidence[:, None], parts], 1)
    marked = {**{name: batch.rows(name) for name in ROWS}, "object or answer": batch.rows("answer") | _object(batch)}
    union = torch.stack(list(marked.values())).any(0)
    index, real = row_index(union)
    raw, *each = _masses(vlm, batch, regions, union).unbind(-1)
    (null,) = _masses(vlm, vlm.null_question(batch), regions[:, :1], union).unbind(-1)
    number = (index - batch.rows("last").int().argmax(1, keepdim=True)).clamp(0, parts.shape[1] - 1)
    own = torch.zeros_like(raw)
    for part, masses in enumerate(each):
        own = torch.where((number == part)[:, None], masses, own)

    def reduced(table: Tensor, name: str, how: str = "mean") -> Tensor:
        mine = marked[name].gather(1, index) & real
        layers = [reduce_rows(layer, mine, "max" if how == "max" else "mean") for layer in table]
        return torch.stack(layers, 1).cpu()

    return {
        "mean": reduced(raw, "answer"),
        "max": reduced(raw, "answer", "max"),
        "own part": reduced(own, "answer"),
        "last": reduced(raw, "last"),
        "question": reduced(raw, "question"),
        "object or answer": reduced(raw, "object or answer", "max"),
        "question − null": reduced(null_calibrated(raw, null), "question"),
    }


def _object(batch: Batch) -> Bool[Tensor, "sample token"]:
    """The last word of each question: the token before its question mark."""
    question = batch.rows("question")
    place = torch.arange(question.shape[1], device=question.device)
    return place == torch.where(question, place, 0).amax(1, keepdim=True) - 1


def _masses(
    vlm: VLM, batch: Batch, regions: Bool[Tensor, "sample region token"], union: Bool[Tensor, "sample token"]
) -> Float[Tensor, "layer sample head row region"]:
    """How much of the attention of each marked row falls on each region."""

    def reduce(call: AttentionCall, attention: Tensor) -> Tensor:
        return torch.stack([mass(attention, region.to(attention.device)) for region in regions.unbind(1)], -1)

    with record(vlm.model, union, reduce=reduce) as recorded:
        vlm.model(**batch.inputs, use_cache=False)
    return recorded.stack()


def compare_reductions(
    vlm: VLM,
    draw: Draw,
    ranking: Draw,
    *,
    fraction: float = 0.05,
    ways: Sequence[str] = WAYS,
    batch_size: int = 32,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Reductions:
    """Rank the heads on `ranking` in each of the `ways` (and by the mean), and redirect each top `fraction` on `draw`:
    mass-preserving, at all rows after the pictures. Intervals resample pictures; differences are paired.

    Raises: BadInput if both draws share samples, if the task has no evidence or no questions with a rival, or if there
    are fewer than two pictures; UnknownName for a way that is none.
    """
    began = time.perf_counter()
    check_pictures(draw)
    if (repr(draw.task), draw.split, draw.seed) == (repr(ranking.task), ranking.split, ranking.seed):
        raise BadInput("heads are ranked on these samples: test them on another split or seed")
    names = list(dict.fromkeys((MEAN, *(check_known("way to read RAM", one, WAYS) for one in ways))))
    rooms = {name: None if store is None else Path(store) / name for name in ("ranked", "moved")}
    whole = ranking.samples + draw.samples
    tops = _tops(vlm, ranking, names, fraction, batch_size, rooms["ranked"], lambda done, _: progress(done, whole))
    plan = {str(number): Intervention(one) for number, one in enumerate(dict.fromkeys(tops.values()))}
    found = redirect_sweep(
        vlm, draw, plan, batch_size=batch_size, store=rooms["moved"],
        progress=lambda done, _: progress(ranking.samples + done, whole),
    )  # fmt: skip
    right, clusters = found["right"], np.array(draw.clusters)
    if len(set(clusters[right].tolist())) < 2:
        raise BadInput(f"{draw.task.name}: fewer than two pictures with a question that can be moved: ask for more")

    def interval(values: np.ndarray, mine: np.ndarray) -> Estimate:
        ends = bootstrap_interval(values[mine], clusters=clusters[mine].tolist(), level=level, seed=draw.seed)
        return Estimate(float(values[mine].mean()), *map(float, ends))

    column = {one.heads: found["moved"][:, number].astype(float) for number, one in enumerate(plan.values())}
    base = interval(right.astype(float), found["paired"])
    return Reductions(
        model=vlm.facts,
        task=draw.facts(questions=draw.questions, counted=int(right.sum())),
        ranked=ranking.facts(),
        fraction=fraction,
        level=level,
        base=Accuracy(base.value, base.low, base.high),
        ways={
            name: Way(one, interval(column[one], right), interval(column[one] - column[tops[MEAN]], right))
            for name, one in tops.items()
        },
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def _tops(
    vlm: VLM,
    ranking: Draw,
    names: Sequence[str],
    fraction: float,
    batch_size: int,
    store: Path | None,
    progress: Progress,
) -> dict[str, HeadSet]:
    """The heads on top by each way."""

    def read(indices: list[int]) -> dict[str, Tensor]:
        return read_reductions(vlm, vlm.encode(ranking.take(indices)))

    fingerprint = {"model": vlm.sha256, "precision": compute_dtype(vlm), **ranking.fingerprint}
    kept = collect(read, ranking.samples, partial(ranking.batches, batch_size), fingerprint, store, progress)
    orders = {name: ordered(kept[name].double().mean(0).numpy()) for name in names}
    return {name: HeadSet(order[: top_count(fraction, len(order))]) for name, order in orders.items()}
