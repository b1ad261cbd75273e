"""Retrieval Attention Mass: how much of its attention a head puts on the evidence.

For query row q, evidence tokens E and visual tokens V of the language model's sequence,

    RAM[h](q) = Σ_{k∈E} A[h, q, k]                 raw, in [0, 1]
    visual_share = RAM / Σ_{k∈V} A                 of what the head spends on the image; in [0, 1]
    lift = visual_share / (|E| / |V|)              1 under uniform attention over the image
    contrast = RAM − max_D Σ_{k∈D} A               against the best distractor region

A big region raises raw RAM by itself, to `chance` = |E| / visible keys; `lift` corrects for that. Scores are a row's;
`reduce_rows` makes them a sample's. Where there is nothing to divide by, a share is 0.

Source: Retrieval Attention Mass is arXiv 2606.05843's (abstract: token-level); the variants are our definitions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from corelib.core.errors import BadInput, BadRegion, check_known

REDUCTIONS = ("mean", "max")  # over the rows of a sample
Attention = Float[Tensor, "*lead head row key"]  # lead: batch, or layer, or nothing
Keys = Bool[Tensor, "*#lead key"]
Rows = Float[Tensor, "*lead head row"]


def mass(attention: Attention, keys: Keys) -> Rows:
    """Attention that falls on `keys`: Σ_{k∈keys} A_k, added up in float32 or better.

    Args:
        attention: [lead…, head, row, key]; lead is a batch, or layers, or nothing.
        keys: [lead…, key].

    >>> mass(torch.tensor([[[0.5, 0.3, 0.2]]]), torch.tensor([False, True, True]))
    tensor([[0.5000]])
    """
    return total(attention * keys[..., None, None, :])


def total(attention: Attention) -> Rows:
    """The sum over keys, in float32 or better: half precision rounds a sum of thousands of keys."""
    return attention.sum(-1, dtype=torch.promote_types(attention.dtype, torch.float32))


def ram(attention: Attention, evidence: Keys) -> Rows:
    """Retrieval Attention Mass of every head and row, [lead…, head, row], in [0, 1].

    Raises:
        BadRegion: a sample has no evidence token.

    >>> ram(torch.tensor([[[0.5, 0.3, 0.2]]]), torch.tensor([False, True, False]))
    tensor([[0.3000]])
    """
    if not evidence.any(-1).all():
        raise BadRegion("a sample has no evidence token: leave it out, or check its region against the token grid")
    return mass(attention, evidence)


def visual_share(attention: Attention, evidence: Keys, visual: Keys) -> Rows:
    """RAM as a share of the attention on the image, in [0, 1]; 0 where a row does not look at the image.

    Raises:
        BadRegion: a sample has no evidence token, or one that is not visual.

    >>> visual_share(torch.tensor([[[0.5, 0.3, 0.2]]]), *torch.tensor([[False, True, False], [False, True, True]]))
    tensor([[0.6000]])
    """
    if (evidence & ~visual).any():
        raise BadRegion("some evidence tokens are not visual tokens: the two masks must be of the same sequence")
    return _share(ram(attention, evidence), mass(attention, visual))


def lift(attention: Attention, evidence: Keys, visual: Keys) -> Rows:
    """How many times more a head looks at the evidence than a uniform look at the image would:

        visual_share / (|E| / |V|)

    Raises:
        BadRegion: as `visual_share`.

    >>> lift(torch.tensor([[[0.5, 0.3, 0.2]]]), *torch.tensor([[False, True, False], [False, True, True]]))
    tensor([[1.2000]])
    """
    size = evidence.sum(-1) / visual.sum(-1)
    return visual_share(attention, evidence, visual) / size[..., None, None]


def contrast(attention: Attention, evidence: Keys, distractors: Bool[Tensor, "*#lead region key"]) -> Rows:
    """RAM minus the mass on the best distractor; regions that only fill up the tensor may be all False.

    Raises:
        BadInput: there is no distractor region.
        BadRegion: a sample has no evidence token.

    >>> contrast(torch.tensor([[[0.5, 0.3, 0.2]]]), *torch.tensor([[False, True, False]]), torch.eye(3).bool()[2:])
    tensor([[0.1000]])
    """
    if not distractors.shape[-2]:
        raise BadInput("contrast needs at least one distractor region a sample: distractors is [batch, region, key]")
    rivals = torch.stack([mass(attention, region) for region in distractors.unbind(-2)])
    return ram(attention, evidence) - rivals.amax(0)


def null_calibrated(raw: Rows, null_raw: Rows) -> Rows:
    """RAM minus RAM under a null question: same template and token count, neutral words.

    Raises:
        BadInput: the two differ in shape.

    Source: the calibration of query-focused retrieval heads, arXiv 2506.09944.

    >>> null_calibrated(torch.tensor([[0.5]]), torch.tensor([[0.2]]))
    tensor([[0.3000]])
    """
    if raw.shape != null_raw.shape:
        raise BadInput(f"raw is {list(raw.shape)}, null is {list(null_raw.shape)}: both need the same samples and rows")
    return raw - null_raw


def value_weighted(
    attention: Float[Tensor, "batch head row key"],
    values: Float[Tensor, "batch kv_head key dim"],
    write: Callable[[Float[Tensor, "batch head row dim"]], Float[Tensor, "batch head row width"]],
    evidence: Bool[Tensor, "batch key"],
) -> Float[Tensor, "batch head row"]:
    """`‖Σ_{k∈E} A v_k W_O[h]‖ / ‖Σ_k A v_k W_O[h]‖`: what the evidence writes, not what it is looked at.

    Not bounded by 1: contributions can cancel.

    Args:
        attention: Of each query head.
        values: Query heads that share values stand together, as in transformers.
        write: What each head writes into the residual stream, given its output: a linear map for each head. It is
            called with float32 and asked of the model's own module (`corelib.models.head_writes`), for a weight alone
            knows nothing of an adapter or a quantiser.
        evidence: The keys E.

    Returns:
        float32, 0 where a head writes nothing.

    >>> attention, values = torch.tensor([[[[0.25, 0.75]]]]), torch.tensor([[[[4.0, 0.0], [0.0, 1.0]]]])
    >>> value_weighted(attention, values, lambda z: z, torch.tensor([[True, False]]))
    tensor([[[0.8000]]])
    """
    attention = attention.float()
    batch, heads, rows, _ = attention.shape
    kv_heads, dim = values.shape[1], values.shape[-1]

    def written(weights: Float[Tensor, "batch head row key"]) -> Float[Tensor, "batch head row"]:
        folded = weights.float().reshape(batch, kv_heads, -1, weights.shape[-1])  # heads that share values, together
        mixed = (folded @ values.float()).reshape(batch, heads, rows, dim)
        norms: Tensor = write(mixed).float().norm(dim=-1)
        return norms

    return _share(written(attention * evidence[:, None, None]), written(attention))


def chance(evidence: Keys, visible: Bool[Tensor, "*lead row key"]) -> Float[Tensor, "*lead row"]:
    """Raw RAM of a head that looks at every visible key alike: |E| / visible keys, of those that the row sees.

    >>> chance(torch.tensor([True, False, False]), torch.tensor([[True, True, False]]))
    tensor([0.5000])
    """
    return _share((evidence[..., None, :] & visible).sum(-1).float(), visible.sum(-1).float())


def visible_keys(
    attention_mask: Int[Tensor, "batch key"] | Bool[Tensor, "batch key"], index: Int[Tensor, "batch row"]
) -> Bool[Tensor, "batch row key"]:
    """Keys that causal rows at the positions `index` may see.

    >>> visible_keys(torch.tensor([[0, 1, 1]]), torch.tensor([[1]])).tolist()
    [[[False, True, False]]]
    """
    keys = torch.arange(attention_mask.shape[1], device=index.device)
    return (keys <= index[..., None]) & attention_mask.bool()[:, None]


def reduce_rows(
    scores: Float[Tensor, "batch head row"], rows: Bool[Tensor, "batch row"], how: Literal["mean", "max"] = "mean"
) -> Float[Tensor, "batch head"]:
    """A sample's score from its rows; `rows` marks the real ones. Compare a `max` with shuffled evidence under `max`.

    Raises:
        UnknownName: `how` is not a reduction.
        BadInput: a sample has no row.

    >>> reduce_rows(torch.tensor([[[0.2, 0.4, 0.0]]]), torch.tensor([[True, True, False]]))
    tensor([[0.3000]])
    """
    check_known("reduction", how, REDUCTIONS)
    if not rows.any(-1).all():
        raise BadInput("a sample has no row to reduce over: mark at least one query row of every sample")
    real = rows[:, None]
    if how == "max":
        return scores.masked_fill(~real, -torch.inf).amax(-1)
    return scores.masked_fill(~real, 0).sum(-1) / rows.sum(-1)[:, None]


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole == 0, torch.zeros_like(part), part / whole)  # what is not a number stays none
