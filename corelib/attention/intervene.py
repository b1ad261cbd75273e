"""Change what heads do, to learn whether it matters: replace their output, or hide keys from them.

Both are programs of the one attention function, where heads are still separate. What is *not* done here: zeroing
queries or attention logits. That turns a head into a uniform average, which after a later causal mask even reads the
future; it is a different head, not an absent one.

Each sample of a batch may have heads of its own, so that a sweep over heads runs in batches:

    with ablate(model, [HeadSet("L0H0"), HeadSet("L0H1")]):   # two samples
        model(**inputs)

Source: ablation and attention knockout as in Geva et al. (2023), "Dissecting Recall of Factual Associations in
Auto-Regressive Language Models", arXiv:2304.14767.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from corelib.attention.call import AttentionCall, Inner, explicit_mask
from corelib.attention.chosen import Heads, chosen_heads, of_batch
from corelib.attention.interface import running
from corelib.attention.selection import Positions, Selection
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import HeadSet

PHASES = ("prefill", "decode")


@contextmanager
def ablate(
    model: nn.Module,
    heads: Heads | Sequence[HeadSet],
    *,
    replacement: Mapping[int, Float[Tensor, "#batch #position head dim"]] | None = None,
    rows: Positions | Literal["prefill", "decode"] | None = None,
) -> Iterator[None]:
    """Replace the outputs z = softmax(q Kᵀ · scaling) V of `heads`, before `o_proj` mixes them with the others: by
    zero, or by what `replacement` holds for the layer, [batch or 1, position or 1, head, dim] of any dtype and device
    (`head_outputs` makes it: a mean, or another sample's outputs).

    `heads` is one set for all samples, or a sequence of sets, one a sample; an empty set changes nothing. `rows` limits
    it to some positions, as in `record` (default: all; decoding steps are positions too if the mask reaches them), or
    to `"prefill"` or `"decode"`: a forward call with one row behind others is decoding, and every other call, such as
    the next chunk of a long prompt, is prefill.

    Raises:
        BadInput: the model has no such head; rows or replacement do not fit the batch; and what `running` refuses.
        UnknownName: a phase that is neither.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model, ids = LlamaForCausalLM(LlamaConfig(num_hidden_layers=3, **sizes)), torch.tensor([[1, 2, 3, 4]])
    >>> with ablate(model, "L1H0 L2H1"):
    ...     without = model(ids).logits
    >>> torch.equal(without, model(ids).logits)
    False
    """
    phase = check_known("phase", rows, PHASES) if isinstance(rows, str) else None
    marked = None if rows is None or isinstance(rows, str) else Selection("rows", rows)
    chosen = chosen_heads(model, heads)
    if replacement is not None and not isinstance(replacement, Mapping):
        raise BadInput(f"replacement is a {type(replacement).__name__}: give a table, layer → what its heads put out")
    if replacement is not None and (missing := sorted(chosen.keys() - replacement.keys())):
        raise BadInput(f"there is nothing to put in place of heads of layers {missing}: record those layers too")

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        out = inner(call)
        if call.layer not in chosen or (phase is not None and (phase == "decode") != call.decoding):
            return out
        where = of_batch(chosen[call.layer], call)[:, None, :, None]  # [batch or 1, 1, head, 1]
        if marked is not None:
            where = where & marked.of_rows(call).to(out.device)[:, :, None, None]
        other = out.new_zeros(()) if replacement is None else _now(replacement[call.layer], call).to(out)
        return torch.where(where, other, out)

    with running(model, program):
        yield


def _now(
    replacement: Float[Tensor, "#batch #position head dim"], call: AttentionCall
) -> Float[Tensor, "#batch #query head dim"]:
    """The part of a replacement that belongs to the rows of this call."""
    batch, queries, heads, dim = call.query.shape[0], call.query.shape[2], call.num_heads, call.value.shape[-1]
    if not isinstance(replacement, Tensor) or replacement.ndim != 4:
        raise BadInput(
            f"the replacement of layer {call.layer} is no tensor [batch, position, head, dim], or 1 for the first"
        )
    if replacement.shape[1] != 1:
        replacement = replacement[:, call.position : call.position + queries]
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
    hidden: Positions,
    rows: Positions,
    heads: Heads | Sequence[HeadSet] | None = None,
) -> Iterator[None]:
    """The marked rows of `heads` (default: all; one set, or one a sample) may not see the `hidden` keys: their scores
    become −∞ before the softmax.

    What remains of such a row is renormalised by the softmax itself; a row with no key left outputs zero. Keys are
    only ever taken away, so nothing sees the future. Both are positions in the sequence, as in `record`: to cover
    decoding steps too, make masks as long as the finished sequence.

    Raises:
        BadInput: `hidden` or `rows` are no mask and no numbers, or do not fit the batch; the model has no such head;
            and what `running` refuses.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from corelib.attention.record import record
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **sizes))
    >>> with knockout(model, hidden=[0, 1], rows=-1, heads="L0H1"), record(model, rows=-1) as recorded:
    ...     _ = model(torch.tensor([[1, 2, 3, 4]]))
    >>> (recorded.stack() > 0).int().tolist()
    [[[[[1, 1, 1, 1]], [[0, 0, 1, 1]]]]]
    """
    unseen, blind = Selection("hidden", hidden), Selection("rows", rows)
    chosen = None if heads is None else chosen_heads(model, heads)

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        now, away = blind.of_rows(call), unseen.of_keys(call)
        if (chosen is not None and call.layer not in chosen) or not now.any():
            return inner(call)
        now, away = now.to(call.query.device), away.to(call.query.device)
        taken = now[:, None, :, None] & away[:, None, None, :]  # [batch, 1, query, key]
        if chosen is not None:
            taken = taken & of_batch(chosen[call.layer], call)[:, :, None, None]  # [batch, head, query, key]
        return hide_keys(call, inner, taken)

    with running(model, program):
        yield


def hide_keys(
    call: AttentionCall,
    inner: Inner,
    taken: Bool[
        Tensor,
        (
            batch  # head query key
        ),
    ],
) -> Float[Tensor, "batch query head dim"]:
    """The outputs of a call whose rows do not see the keys that are `taken` from them; a row that loses its last key
    puts out zero."""
    before = explicit_mask(call)
    after = before & ~taken
    emptied = (before.any(-1) & ~after.any(-1)).mT  # [batch, query, head or 1]
    return inner(replace(call, mask=after)).masked_fill(emptied[..., None], 0.0)
