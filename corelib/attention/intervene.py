"""Change what heads do, to learn whether it matters: replace their output, or hide keys from them.

Both are programs of the one attention function, where heads are still separate. What is *not* done here: zeroing
queries or attention logits. That turns a head into a uniform average, which after a later causal mask even reads the
future; it is a different head, not an absent one.

Each sample of a batch may have heads of its own, so that a sweep over heads runs in batches:

    with ablate(model, [HeadSet("L0H0"), HeadSet("L0H1")]):   # two samples
        model(**inputs)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import pad

from corelib.attention.interface import AttentionCall, Inner, attention_modules, explicit_mask, running
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import HeadSet

PHASES = ("prefill", "decode")


def _chosen(model: nn.Module, heads: HeadSet | Sequence[HeadSet]) -> dict[int, Bool[Tensor, "#batch head"]]:
    """Which heads are meant, by layer, after a check that the model has them: one row for all samples, or one each."""
    modules = attention_modules(model)
    layers, count = modules[-1].layer_idx + 1, modules[0].config.num_attention_heads
    sets = [heads] if isinstance(heads, HeadSet) else list(heads)
    chosen: dict[int, Bool[Tensor, "#batch head"]] = {}
    for number, one in enumerate(sets):
        for layer, indices in one.check(layers, count).by_layer().items():
            chosen.setdefault(layer, torch.zeros(len(sets), count, dtype=torch.bool))[number, list(indices)] = True
    return chosen


def _of_batch(chosen: Bool[Tensor, "#batch head"], call: AttentionCall) -> Bool[Tensor, "#batch head"]:
    if chosen.shape[0] not in (1, call.query.shape[0]):
        raise BadInput(
            f"{chosen.shape[0]} head sets for a batch of {call.query.shape[0]}: give one for all, or one a sample"
        )
    return chosen.to(call.query.device)


@contextmanager
def ablate(
    model: nn.Module,
    heads: HeadSet | Sequence[HeadSet],
    *,
    replacement: Mapping[int, Float[Tensor, "#batch #position head dim"]] | None = None,
    rows: Bool[Tensor, "batch position"] | Literal["prefill", "decode"] | None = None,
) -> Iterator[None]:
    """Replace the outputs of `heads`, before `o_proj` mixes them with the others: by zero, or by what `replacement`
    holds for the layer (`head_outputs.py` makes it: a mean, or another sample's outputs).

    `rows` limits it to some positions (default: all; decoding steps are positions too if the mask reaches them), or
    to the `prefill` or the `decode` steps. `heads` is one set for all samples, or one a sample; an empty set changes
    nothing.
    """
    if isinstance(rows, str):
        check_known("phase", rows, PHASES)
    chosen = _chosen(model, heads)
    if replacement is not None and (missing := sorted(chosen.keys() - replacement.keys())):
        raise BadInput(f"there is nothing to put in place of heads of layers {missing}: record those layers too")

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        out = inner(call)
        if call.layer not in chosen:
            return out
        where = _of_batch(chosen[call.layer], call)[:, None, :, None]  # [batch or 1, 1, head, 1]
        queries = call.query.shape[2]
        if isinstance(rows, str):
            if (rows == "decode") != (call.offset > 0):
                return out
        elif rows is not None:
            where = where & _window(rows, call.offset, queries, call)[:, :, None, None]
        other = out.new_zeros(()) if replacement is None else _now(replacement[call.layer], call).to(out)
        return torch.where(where, other, out)

    with running(model, program):
        yield


def _now(replacement: Float[Tensor, "#batch #position head dim"], call: AttentionCall) -> Tensor:
    """The part of a replacement that belongs to the rows of this call."""
    batch, queries, heads, dim = call.query.shape[0], call.query.shape[2], call.num_heads, call.value.shape[-1]
    if replacement.shape[1] != 1:
        replacement = replacement[:, call.offset : call.offset + queries]
    given = tuple(replacement.shape)
    if given[0] not in (1, batch) or given[1] not in (1, queries) or given[2:] != (heads, dim):
        raise BadInput(
            f"the replacement of layer {call.layer} is {list(given)} at these rows, but the heads put out "
            f"{[batch, queries, heads, dim]}: [batch, position, head, dim], or 1 for batch or position"
        )
    return replacement


@contextmanager
def knockout(
    model: nn.Module,
    hidden: Bool[Tensor, "batch key"],
    rows: Bool[Tensor, "batch key"],
    heads: HeadSet | Sequence[HeadSet] | None = None,
) -> Iterator[None]:
    """The marked rows of `heads` (default: all; one set, or one a sample) may not see the `hidden` keys.

    What remains of such a row is renormalised by the softmax itself; a row with no key left outputs zero. Keys are
    only ever taken away, so nothing sees the future. Both masks are places on the key axis, as in `record`: to cover
    decoding steps too, make them as long as the finished sequence.
    """
    for name, mask in (("hidden", hidden), ("rows", rows)):
        if mask.dtype != torch.bool or mask.ndim != 2:
            raise BadInput(f"{name} is {mask.dtype} {list(mask.shape)}: give a boolean mask [batch, position]")
    chosen = None if heads is None else _chosen(model, heads)

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        queries, keys = call.query.shape[2], call.key.shape[2]
        now = _window(rows, call.offset, queries, call)
        if (chosen is not None and call.layer not in chosen) or not now.any():
            return inner(call)
        taken = now[:, None, :, None] & _window(hidden, 0, keys, call)[:, None, None, :]  # [batch, 1, query, key]
        if chosen is not None:
            taken = taken & _of_batch(chosen[call.layer], call)[:, :, None, None]  # [batch, head, query, key]
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
