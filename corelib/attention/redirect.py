"""Move what heads look at: the attention that they pay to the evidence goes to another place, and the answer shows it.

For a chosen head h and query row q, with the evidence E and the target T in parts j, three strengths:

    mass-preserving   out += Σ_j [ m_j · mean_{k ∈ T_j} v_k − Σ_{k ∈ E_j} A[h,q,k] v_k ],  m_j = Σ_{k ∈ E_j} A[h,q,k]
    forced            the head sees the target and nothing else
    hidden            the head does not see the evidence (a knockout, for comparison)

The first changes only which values the head's own mass on the evidence is spent on: all other attention, and the sum of
it, stay as they are. Each part of the evidence goes to the part of the target with the same number, such as the first
digit of a value to the first digit of another.

Source: our definition, a form of activation patching on the attention pattern. Forcing by a mask is that of "Gaze
Heads", arXiv:2606.14703; knockout that of Geva et al. (2023), arXiv:2304.14767.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from corelib.attention.call import AttentionCall, Inner, attention_rows, explicit_mask
from corelib.attention.chosen import Heads, chosen_heads, of_batch
from corelib.attention.interface import running
from corelib.attention.intervene import hide_keys
from corelib.attention.selection import Positions, Selection, row_index
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import HeadSet

Strength = Literal["mass-preserving", "forced", "hidden"]
STRENGTHS: tuple[Strength, ...] = get_args(Strength)
Regions: TypeAlias = Positions | Bool[Tensor, "batch part position"]


@contextmanager
def redirect(
    model: nn.Module,
    heads: Heads | Sequence[HeadSet],
    evidence: Regions,
    target: Regions,
    rows: Positions,
    *,
    strength: Strength = "mass-preserving",
) -> Iterator[None]:
    """At the marked rows, `heads` (one set, or one a sample) spend on the `target` what they pay to the `evidence`.

    `evidence` and `target` are positions in the sequence as in `record`, or boolean masks in parts, [batch, part,
    position]: as many parts each, of which a sample may leave the last ones empty in both. `rows` may reach decoding
    steps, if its mask does. Attention and the change are computed in float32, and added in the model's dtype.

    Raises:
        BadInput: evidence and target share a position, or have other numbers of parts; a part has evidence and no
            target; the rows do not see the target yet; the model has no such head; what does not fit the batch; and
            what `running` refuses.
        UnknownName: another strength.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model, ids = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **sizes)), torch.tensor([[1, 2, 3, 4]])
    >>> with redirect(model, "L0H1", evidence=0, target=1, rows=-1):
    ...     moved = model(ids).logits
    >>> (moved != model(ids).logits).any(-1).tolist()  # of four rows, the last
    [[False, False, False, True]]
    """
    check_known("strength", strength, STRENGTHS)
    away, to, now = _parts("evidence", evidence), _parts("target", target), Selection("rows", rows)
    if len(away) != len(to):
        raise BadInput(f"the evidence has {len(away)} parts, the target {len(to)}: give as many, each for the other")
    chosen = chosen_heads(model, heads)

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        if call.layer not in chosen or not (marked := now.of_rows(call)).any():
            return inner(call)
        device = call.query.device
        left, goal = (torch.stack([one.of_keys(call) for one in parts], 1).to(device) for parts in (away, to))
        _check(left, goal, call, marked.to(device))
        mine = of_batch(chosen[call.layer], call)
        if strength == "mass-preserving":
            return _moved(call, inner(call), left, goal, marked.to(device), mine)
        hidden = left.any(1) if strength == "hidden" else ~goal.any(1)
        there = marked.to(device) & left.flatten(1).any(1, keepdim=True)  # a sample without evidence stays
        return hide_keys(call, inner, there[:, None, :, None] & hidden[:, None, None] & mine[:, :, None, None])

    with running(model, program):
        yield


def _parts(name: str, given: Regions) -> list[Selection]:
    """One selection a part."""
    if isinstance(given, Tensor) and given.ndim == 3:
        if given.dtype != torch.bool or not given.shape[1]:
            raise BadInput(f"{name} is {given.dtype} {list(given.shape)}: give boolean masks [batch, part, position]")
        return [Selection(name, part) for part in given.unbind(1)]
    return [Selection(name, given)]


def _check(
    evidence: Bool[Tensor, "batch part key"],
    target: Bool[Tensor, "batch part key"],
    call: AttentionCall,
    rows: Bool[Tensor, "batch query"],
) -> None:
    if (evidence.any(1) & target.any(1)).any():
        raise BadInput("target and evidence share a position: a head cannot look away from where it is to look")
    if (evidence.any(-1) & ~target.any(-1)).any():
        raise BadInput("there is evidence without a target: give each part of it a place to go")
    index, real = row_index(rows)
    unseen = target.any(1)[:, None, None] & ~explicit_mask(call, index) & real[:, None, :, None]
    if unseen.any():
        raise BadInput(f"rows of layer {call.layer} do not see the target (yet): give rows behind it")


def _moved(
    call: AttentionCall,
    out: Float[Tensor, "batch query head dim"],
    evidence: Bool[Tensor, "batch part key"],
    target: Bool[Tensor, "batch part key"],
    rows: Bool[Tensor, "batch query"],
    chosen: Bool[Tensor, "#batch head"],
) -> Float[Tensor, "batch query head dim"]:
    """The outputs with the mass of the evidence on the target."""
    index, real = row_index(rows)
    attention = attention_rows(call, index) * (real[:, None, :, None] & chosen[:, :, None, None])
    share = target.float() / target.sum(-1, keepdim=True).clamp(min=1)  # of a part's mass, on each of its keys
    mass = torch.einsum("bhrk,bjk->bhrj", attention, evidence.float())
    change = torch.einsum("bhrj,bjk->bhrk", mass, share) - attention * evidence.any(1)[:, None, None]
    grouped = change.reshape(len(change), call.num_kv_heads, -1, change.shape[-1])  # heads of one group share values
    with torch.autocast(change.device.type, enabled=False):
        added = (grouped @ call.value.float()).reshape(*change.shape[:3], -1).transpose(1, 2)
    batch = torch.arange(len(out), device=out.device)[:, None]
    return out.index_put((batch, index), added.to(out.dtype), accumulate=True)
