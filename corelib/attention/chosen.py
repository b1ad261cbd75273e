"""Heads as a caller may give them: one set for all samples of a batch, or one each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from corelib.attention.call import AttentionCall
from corelib.attention.decoder import attention_modules, layer_of
from corelib.core.errors import BadInput
from corelib.core.heads import Head, HeadSet

Heads: TypeAlias = HeadSet | str | Head | Iterable[str | Head | tuple[int, int]]


def as_head_set(heads: Heads) -> HeadSet:
    """One set of heads, whichever way it was written.

    Raises:
        BadInput: it names no heads.

    >>> str(as_head_set("L4H0 L2H1")), str(as_head_set(["L4H0", (2, 1)]))
    ('L2H1 L4H0', 'L2H1 L4H0')
    """
    if isinstance(heads, HeadSet):
        return heads
    if isinstance(heads, Head):
        return HeadSet([heads])
    if not isinstance(heads, Iterable):
        raise BadInput(f"{heads!r} is no set of heads: give HeadSet('L4H0'), 'L4H0', or a list of heads")
    return HeadSet(heads)


def heads_by_layer(model: nn.Module, heads: Heads) -> dict[int, tuple[int, ...]]:
    """The heads of one set, by layer.

    Raises:
        BadInput: the model has no such head.
    """
    modules = attention_modules(model)
    config: Any = modules[0].config
    return as_head_set(heads).check(len(modules), int(config.num_attention_heads)).by_layer()


def _head_sets(heads: Heads | Sequence[HeadSet]) -> list[HeadSet]:
    if isinstance(heads, HeadSet | str | Head) or not isinstance(heads, Iterable):
        return [as_head_set(heads)]
    given: list[Any] = list(heads)
    if given and isinstance(given[0], HeadSet):
        return [as_head_set(one) for one in given]
    return [as_head_set(given)]


def chosen_heads(model: nn.Module, heads: Heads | Sequence[HeadSet]) -> dict[int, Bool[Tensor, "#batch head"]]:
    """Which heads are meant, by layer: one row for all samples, or one each.

    Raises:
        BadInput: The model has no such head.
    """
    modules = attention_modules(model)
    there = [layer_of(module) for module in modules]
    config: Any = modules[0].config
    count = int(config.num_attention_heads)
    sets = _head_sets(heads)
    chosen: dict[int, Bool[Tensor, "#batch head"]] = {}
    for number, one in enumerate(sets):
        for layer, indices in one.check(there[-1] + 1, count).by_layer().items():
            if layer not in there:
                raise BadInput(f"layer {layer} has no softmax attention: choose heads of layers {there}")
            chosen.setdefault(layer, torch.zeros(len(sets), count, dtype=torch.bool))[number, list(indices)] = True
    return chosen


def of_batch(chosen: Bool[Tensor, "#batch head"], call: AttentionCall) -> Bool[Tensor, "#batch head"]:
    """The chosen heads of a layer, on the device of the call.

    Raises:
        BadInput: There are other numbers of samples and of sets.
    """
    if chosen.shape[0] not in (1, call.query.shape[0]):
        raise BadInput(
            f"{chosen.shape[0]} head sets for a batch of {call.query.shape[0]}: give one for all, or one a sample"
        )
    return chosen.to(call.query.device)
