"""One layer's attention as a program sees it, and how to read it: what rows may see, and what they look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from corelib.core.errors import BadInput, UnsupportedArchitecture


@dataclass(frozen=True)
class AttentionCall:
    """One layer's attention, as the model asked for it: rotary embedding, q/k norm and cache are already applied.

    All tensors have the model's dtype and lie on the layer's device. The key axis ends with the last query row: what a
    static cache holds behind it is cut off. It begins at `first_key`, which is 0 unless the cache slides.

    >>> states = torch.zeros(1, 2, 3, 4)  # [batch, head, position, dim]
    >>> call = AttentionCall(nn.Identity(), states[:, :, 2:], states, states, mask=None, scaling=0.5, offset=2)
    >>> call.num_heads, call.position, call.decoding
    (2, 2, True)
    """

    module: nn.Module
    query: Float[Tensor, "batch head query dim"]
    key: Float[Tensor, "batch kv_head key dim"]
    value: Float[Tensor, "batch kv_head key value_dim"]
    mask: Bool[Tensor, "#batch #head query key"] | None  # True may be seen; None is plain causal
    scaling: float
    offset: int  # where on the key axis the first query row stands: 0, or what the cache holds
    dropout: float = 0.0
    kwargs: dict[str, Any] = field(default_factory=dict)
    first_key: int = 0  # where in the sequence the first key stands: 0, or what a sliding cache has dropped
    own_mask: Bool[Tensor, "#batch #head query key"] | None = None  # the model's, before any program changed it

    @property
    def layer(self) -> int:
        """The number of the layer, from 0."""
        return int(self.module.layer_idx)  # type: ignore[arg-type]  # attention modules have it

    @property
    def num_heads(self) -> int:
        """Query heads."""
        return self.query.shape[1]

    @property
    def num_kv_heads(self) -> int:
        """Key/value heads."""
        return self.key.shape[1]

    @property
    def position(self) -> int:
        """Where in the sequence the first query row stands, padding included."""
        return self.first_key + self.offset

    @property
    def decoding(self) -> bool:
        """Is it one row after others? Every call with more rows, and the very first one, is prefill."""
        return self.query.shape[2] == 1 and self.position > 0

    @property
    def causal(self) -> bool:
        """Does "no mask" mean causal?"""
        given = self.kwargs.get("is_causal")
        return bool(getattr(self.module, "is_causal", True) if given is None else given)

    @property
    def whole(self) -> bool:
        """Are the keys of all key/value heads here? The cache of `sparsify` drops some, and keeps them to itself."""
        return self.num_kv_heads * int(getattr(self.module, "num_key_value_groups", 1)) == self.num_heads


Inner: TypeAlias = Callable[[AttentionCall], Float[Tensor, "batch query head dim"]]
Program: TypeAlias = Callable[[AttentionCall, Inner], Float[Tensor, "batch query head dim"]]


def require_keys(call: AttentionCall) -> None:
    """Refuse a call in which keys are missing, as they are under `sparsify` with its own cache.

    Raises:
        BadInput: there are fewer key/value heads than the query heads need.
    """
    if not call.whole:
        raise BadInput(
            f"layer {call.layer} has kept the keys of {call.num_kv_heads} key/value heads only, so attention cannot be "
            "read: with record or oracle_topk around sparsify, use an ordinary cache in place of sparse.cache()"
        )


def require_one_way(call: AttentionCall) -> None:
    """Refuse a call in which rows see the token behind them, as the tokens of one picture do in Gemma 3: a window ends
    at its row.

    Raises:
        UnsupportedArchitecture: the model's own mask shows a row the next key.
    """
    mask = call.own_mask
    if mask is not None and mask.diagonal(call.offset + 1, -2, -1).any():
        raise UnsupportedArchitecture(
            f"in layer {call.layer} the tokens of a picture see each other in both directions, which windows would "
            "take away: sparsify and its like are for models, or prompts, in which no row sees what stands behind it"
        )


def explicit_mask(
    call: AttentionCall, rows: Int[Tensor, "batch row"] | None = None
) -> Bool[Tensor, "batch mask_head row key"]:
    """Which keys the query rows may see, with "no mask means causal" written out: row r sees key k if k ≤ offset + r.

    `rows` index the query axis of this call (default: all of it), so a few rows cost O(rows · keys). The result lies on
    the call's device, and has one mask head for all heads, or one each.

    Raises:
        BadInput: the model's mask is not boolean.

    >>> states = torch.zeros(1, 1, 2, 4)
    >>> explicit_mask(AttentionCall(nn.Identity(), states, states, states, None, 0.5, 0))[0, 0].int().tolist()
    [[1, 0], [1, 1]]
    """
    batch, _, queries, _ = call.query.shape
    if call.mask is not None and call.mask.dtype != torch.bool:
        raise BadInput(f"the attention mask is {call.mask.dtype}: give a 2-D attention_mask or a 4-D boolean one")
    if rows is None:
        if call.mask is not None:
            return call.mask.expand(batch, -1, -1, -1)
        rows = torch.arange(queries, device=call.query.device).expand(batch, -1)
    if call.mask is not None:
        picked = torch.arange(batch, device=rows.device)[:, None]
        return call.mask.expand(batch, -1, -1, -1)[picked, :, rows].transpose(1, 2)  # [batch, head, row, key]
    keys = torch.arange(call.key.shape[2], device=rows.device)
    seen = keys <= rows[..., None] + call.offset  # [batch, row, key]
    return (seen if call.causal else torch.ones_like(seen))[:, None]


def attention_rows(call: AttentionCall, rows: Int[Tensor, "batch row"]) -> Float[Tensor, "batch head row key"]:
    """`softmax(q_rows Kᵀ · scaling)` for some query rows: O(rows · keys), beside SDPA, not instead of it.

    `rows` index the query axis of this call. The result is float32 on the call's device, whatever the model's dtype.
    Query heads that share a key/value head are folded into its rows, so grouped keys are never repeated. A row that
    sees no key (padding) has attention zero.

    Raises:
        BadInput: the model's mask is not boolean, or keys are missing.

    >>> states = torch.zeros(1, 1, 2, 4)
    >>> call = AttentionCall(nn.Identity(), states, states, states, None, 0.5, 0)
    >>> attention_rows(call, torch.tensor([[1]])).tolist()
    [[[[0.5, 0.5]]]]
    """
    require_keys(call)
    batch, heads, _, dim = call.query.shape
    picked = torch.arange(batch, device=rows.device)[:, None]
    query = call.query[picked, :, rows].transpose(1, 2)  # [batch, head, row, dim]
    seen = explicit_mask(call, rows)
    with torch.autocast(query.device.type, enabled=False):
        query = query.float().reshape(batch, call.num_kv_heads, -1, dim) * call.scaling  # [batch, kv_head, group·row, …
        scores = (query @ call.key.float().mT).reshape(batch, heads, rows.shape[1], -1)
        attention = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return attention.masked_fill(~seen.any(-1, keepdim=True), 0.0)


def sequence_starts(call: AttentionCall) -> Int[Tensor, " #batch"]:
    """Where each sequence begins on the key axis, behind its padding: the first key that any row of the model's own
    mask sees, whatever programs have hidden since. Without a mask all begin at 0.

    Raises:
        BadInput: the layer has a sliding window and its rows no longer see the beginning.
    """
    if call.own_mask is None:
        return torch.zeros(1, dtype=torch.long, device=call.query.device)
    window = call.kwargs.get("sliding_window")
    if call.position and window and call.position + call.query.shape[2] > window:
        raise BadInput(
            f"layer {call.layer} slides (window {window}), so the beginning of its sequences is out of sight: read "
            "them in one forward call"
        )
    return call.own_mask.any(2).any(1).int().argmax(-1)
