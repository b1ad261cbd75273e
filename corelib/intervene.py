"""Change what heads do, to learn whether it matters: silence their output, or hide keys from them.

Both are programs of the one attention function, where heads are still separate. What is *not* done here: zeroing
queries or attention logits. That turns a head into a uniform average, which after a later causal mask even reads the
future; it is a different head, not an absent one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import pad

from corelib.attention import AttentionCall, Inner, attention_modules, explicit_mask, running
from corelib.errors import BadInput, check_known
from corelib.heads import HeadSet


def _indices(model: nn.Module, heads: HeadSet) -> dict[int, list[int]]:
    """Head indices of every decoder layer, after a check that the model has them."""
    modules = attention_modules(model)
    heads.check(modules[-1].layer_idx + 1, modules[0].config.num_attention_heads)
    return {layer: list(indices) for layer, indices in heads.by_layer().items()}


@contextmanager
def ablate(model: nn.Module, heads: HeadSet, mode: Literal["zero"] = "zero") -> Iterator[None]:
    """Set the outputs of `heads` to zero, before `o_proj` mixes them with the others.

    Every position is affected. An empty set changes nothing.
    """
    check_known("ablation mode", mode, ("zero",))
    chosen = _indices(model, heads)

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        out = inner(call)
        indices = chosen.get(call.layer)
        return out if indices is None else out.index_fill(2, torch.tensor(indices, device=out.device), 0.0)

    with running(model, program):
        yield


@contextmanager
def blind(
    model: nn.Module,
    hidden: Bool[Tensor, "batch key"],
    rows: Bool[Tensor, "batch key"],
    heads: HeadSet | None = None,
) -> Iterator[None]:
    """The marked rows of `heads` (default: all) may not see the `hidden` keys.

    What remains of such a row is renormalised by the softmax itself; a row with no key left outputs zero. Keys are
    only ever taken away, so nothing sees the future. Both masks are places on the key axis, as in `record`: to cover
    decoding steps too, make them as long as the finished sequence.
    """
    for name, mask in (("hidden", hidden), ("rows", rows)):
        if mask.dtype != torch.bool or mask.ndim != 2:
            raise BadInput(f"{name} is {mask.dtype} {list(mask.shape)}: give a boolean mask [batch, position]")
    chosen = None if heads is None else _indices(model, heads)

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        queries, keys = call.query.shape[2], call.key.shape[2]
        now = _window(rows, call.offset, queries, call)
        if (chosen is not None and call.layer not in chosen) or not now.any():
            return inner(call)
        taken = now[:, None, :, None] & _window(hidden, 0, keys, call)[:, None, None, :]  # [batch, 1, query, key]
        if chosen is not None:
            affected = torch.zeros(call.heads, dtype=torch.bool, device=taken.device)
            affected[chosen[call.layer]] = True
            taken = taken & affected[:, None, None]  # [batch, head, query, key]
        before = explicit_mask(call)
        after = before & ~taken
        emptied = (before.any(-1) & ~after.any(-1)).mT  # [batch, query, head or 1]
        return inner(replace(call, mask=after)).masked_fill(emptied[..., None], 0.0)

    with running(model, program):
        yield


def _window(mask: Bool[Tensor, "batch key"], start: int, length: int, call: AttentionCall) -> Bool[Tensor, "batch n"]:
    """`length` places of a mask from `start` on; places that it does not reach are not marked."""
    if mask.shape[0] != call.query.shape[0] or (call.offset == 0 and mask.shape[1] < call.query.shape[2]):
        given, needed = list(mask.shape), [call.query.shape[0], call.query.shape[2]]
        raise BadInput(f"the mask is {given}, but the model reads {needed} (batch, positions): cover the whole prompt")
    window = mask[:, start : start + length].to(call.query.device)
    return pad(window, (0, length - window.shape[1]))
