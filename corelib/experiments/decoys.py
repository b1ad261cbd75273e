"""Heads that look and say nothing: which scores of heads take them for real?

    found = measure_decoys(vlm, draw, HeadSet("L2H3 L4H0"))
    found.kept["RAM"]                 # 1.0: all of the decoys are still on top by RAM

A decoy is made: what a head writes is silenced, by zeros in the columns of the output matrix that are its own. It looks
as before, and moves nothing. A score that only reads attention cannot know. Decoys are taken from the top of RAM, every
second head, so that others are left to answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from corelib.attention.decoder import attention_modules, layer_of
from corelib.core.errors import BadInput, UnsupportedArchitecture
from corelib.core.heads import Heads, HeadSet
from corelib.core.results import Result, software
from corelib.core.values import ModelFacts, Software, TaskFacts
from corelib.experiments.answer_sweep import compute_dtype
from corelib.experiments.reading import ALL_QUANTITIES, readable
from corelib.experiments.score_heads import measure_heads, summarise_heads
from corelib.metrics.catalogue import METRICS
from corelib.models.vlm import VLM
from corelib.tasks import Draw


@dataclass(frozen=True, repr=False)
class Decoys(Result):
    """What of the decoys each score has on top, before they were made, and after."""

    schema: ClassVar[str] = "corelib/decoys/1"

    model: ModelFacts
    task: TaskFacts
    decoys: Heads
    before: dict[str, float]  # by score: the share of the decoys in its top 5 %
    kept: dict[str, float]  # the same, with their output silenced
    accuracy: tuple[float, float]  # before, after
    software: Software
    seconds: float


@contextmanager
def silenced(model: nn.Module, heads: HeadSet) -> Iterator[None]:
    """What `heads` write is zero: the columns of their output matrices. Leaving restores the weights.

    Raises: UnsupportedArchitecture if the output matrix is no plain linear layer; BadInput if there is no such head.

    >>> from corelib import load
    >>> vlm = load("mini-s")
    >>> weight = vlm.model.model.language_model.layers[2].self_attn.o_proj.weight
    >>> with silenced(vlm.model, HeadSet("L2H0")):
    ...     silent = float(weight.abs().sum(0)[:32].sum())
    >>> silent, bool(weight[:, :32].any())
    (0.0, True)
    """
    modules: dict[int, Any] = {layer_of(module): module for module in attention_modules(model)}
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        for layer, indices in heads.by_layer().items():
            if layer not in modules:
                raise BadInput(f"layer {layer} has no softmax attention: choose heads of layers {sorted(modules)}")
            o_proj, count = modules[layer].o_proj, int(modules[layer].config.num_attention_heads)
            if type(o_proj) is not nn.Linear or o_proj.weight.shape[1] % count:
                raise UnsupportedArchitecture(f"the output matrix of layer {layer} is a {type(o_proj).__name__}")
            if max(indices) >= count:
                raise BadInput(f"L{layer}H{max(indices)}: layers have heads 0–{count - 1}")
            weight = o_proj.weight.data
            kept.append((weight, weight.clone()))
            for index, columns in enumerate(weight.chunk(count, dim=1)):
                if index in indices:
                    columns.zero_()
        yield
    finally:
        with torch.no_grad():
            for weight, before in kept:
                weight.copy_(before)


def measure_decoys(vlm: VLM, draw: Draw, decoys: HeadSet, *, fraction: float = 0.05) -> Decoys:
    """Score all heads by every score, as they are and with the decoys silenced.

    Raises: BadInput without a decoy; UnsupportedArchitecture as `silenced`.
    """
    began = time.perf_counter()
    if not decoys:
        raise BadInput("there is no decoy: give one head or more")
    quantities = readable(draw[0], ALL_QUANTITIES)

    def shares() -> tuple[dict[str, float], float]:
        found = measure_heads(vlm, draw, quantities=quantities)
        assert found is not None  # one process has them all
        tops = {
            name: summarise_heads(vlm, draw, found, metric=one).top(fraction)
            for name, one in METRICS.items()
            if one.key in found.scores
        }
        return {name: len(top & decoys) / len(decoys) for name, top in tops.items()}, found.accuracy

    before, right = shares()
    with silenced(vlm.model, decoys):
        kept, left = shares()
    return Decoys(
        model=vlm.facts,
        task=draw.facts(),
        decoys=decoys,
        before=before,
        kept=kept,
        accuracy=(right, left),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )
