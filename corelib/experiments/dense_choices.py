"""Which heads should stay dense? Rankings by what a window does to them, and all choices on the same questions.

    effects = windowing_effects(vlm, draw, window)         # of every head alone
    chosen = greedy_dense(vlm, draw, window, candidates, count=14)
    found = compare_choices(vlm, draw, {"RAM": scores.top(), "greedy": HeadSet(chosen)}, width=256)

Heads are ranked and chosen on other samples than those that test them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from corelib.core.errors import BadInput
from corelib.core.heads import Head, Heads, HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import Accuracy, AccuracyKept, ModelFacts, Software, TaskFacts, WindowFacts
from corelib.experiments.answer_sweep import compute_dtype
from corelib.experiments.out_of_window import Condition, answer_under, sinks_and_length
from corelib.models.vlm import VLM
from corelib.replay.prefix_cache import PrefixReplay, replay_from_prefix
from corelib.sparse import Window, sparsify
from corelib.tasks import Draw


@dataclass(frozen=True)
class NamedChoice:
    """Some heads dense, all others short-sighted."""

    name: str
    heads: Heads
    kept: AccuracyKept


@dataclass(frozen=True, repr=False)
class DenseChoices(Result):
    """Choices of dense heads, compared."""

    schema: ClassVar[str] = "corelib/dense-choices/1"

    model: ModelFacts
    task: TaskFacts  # counted: those questions whose evidence is out of reach
    window: WindowFacts
    level: float  # of all intervals
    base: Accuracy  # all dense
    none: AccuracyKept  # no head dense
    choices: tuple[NamedChoice, ...]
    software: Software
    seconds: float


def compare_choices(
    vlm: VLM,
    draw: Draw,
    choices: Mapping[str, HeadSet],
    *,
    width: int,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> DenseChoices:
    """Answer the same questions under each of the named `choices`. Differences to all dense are paired; intervals
    resample pictures.

    Raises:
        BadInput: There is no choice, a head that the model lacks, or the window reaches the evidence of nearly all
            samples.
    """
    began = time.perf_counter()
    if not choices:
        raise BadInput("no choice of dense heads: give one or more, by name")
    sinks, length = sinks_and_length(vlm, draw)
    window = Window(width, sinks)
    sets = [HeadSet(), *(one.check(vlm.num_layers, vlm.num_heads) for one in choices.values())]
    conditions: list[Condition] = [nullcontext, *(partial(sparsify, vlm.model, one, window) for one in sets)]
    named = {"sets": [one.to_json() for one in sets]}
    found = answer_under(vlm, draw, conditions, window, level=level, named=named, store=store, progress=progress)
    return DenseChoices(
        model=vlm.facts,
        task=draw.facts(counted=found.counted),
        window=WindowFacts(width, sinks, length),
        level=level,
        base=found.stated(0),
        none=found.against(1),
        choices=tuple(
            NamedChoice(name, one, found.against(number)) for number, (name, one) in enumerate(choices.items(), start=2)
        ),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def windowing_effects(
    vlm: VLM, draw: Draw, window: Window, *, progress: Progress = silent
) -> Float[Tensor, "layer head"]:
    """What is lost if one head alone is short-sighted: the mean fall of the answers' log-probability, in nats, over the
    samples. Float64, on the CPU.

    Raises:
        BadInput: There is one question about each picture.
    """
    layers, heads = vlm.num_layers, vlm.num_heads
    lost = torch.zeros(layers, heads, dtype=torch.double)
    everyone = HeadSet.all(layers, heads)
    for done, ask in enumerate(_asked(vlm, draw)):
        progress(done, draw.pictures)
        whole = ask(keep=True).logprob.double()
        for head in everyone:
            with sparsify(vlm.model, everyone - HeadSet([head]), window):
                lost[head.layer, head.index] += (whole - ask(head.layer).logprob.double()).sum()
    progress(draw.pictures, draw.pictures)
    return lost / draw.samples


def greedy_dense(
    vlm: VLM, draw: Draw, window: Window, candidates: Sequence[Head], count: int, *, progress: Progress = silent
) -> list[Head]:
    """Heads that become dense one after the other, each time the one of the `candidates` with which the answers are
    most probable: `argmax_h mean log p(answer | dense heads ∪ {h})`. In the order of their choice.

    Raises:
        BadInput: There are fewer candidates than `count`, or one question about each picture.
    """
    if not 0 < count <= len(candidates):
        raise BadInput(f"{count} of {len(candidates)} candidates: give 1 or more, and no more than there are")
    asked = list(_asked(vlm, draw))
    for ask in asked:
        with sparsify(vlm.model, HeadSet(), window):
            ask(keep=True)
    chosen: list[Head] = []
    while len(chosen) < count:
        left = [head for head in candidates if head not in chosen]
        progress(len(chosen), count)
        found = [sum(_logprob(vlm, ask, HeadSet([*chosen, head]), window) for ask in asked) for head in left]
        chosen.append(left[max(range(len(left)), key=found.__getitem__)])
    progress(count, count)
    return chosen


def _asked(vlm: VLM, draw: Draw) -> Iterator[PrefixReplay]:
    """The questions about each picture."""
    if draw.questions < 2:
        raise BadInput("one question about each picture: draw several (questions=8), which read the picture together")
    for indices in draw.batches(draw.questions):
        yield replay_from_prefix(vlm, vlm.encode(draw.take(indices)))


def _logprob(vlm: VLM, ask: PrefixReplay, dense: HeadSet, window: Window) -> float:
    with sparsify(vlm.model, dense, window):
        return ask(min(head.layer for head in dense)).logprob.double().sum().item()
