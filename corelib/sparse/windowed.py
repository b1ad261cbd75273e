"""Sink and window attention in plain torch: exact for any length, and no tensor grows with rows · keys.

The rows are taken in blocks. The rows of a block see nearly the same keys: the sinks, and the `width` keys before the
block up to the block itself. So each block is one small dense attention with a mask, and its cost does not depend on
how long the sequence is. Query heads that share a key/value head are folded into its rows: keys are never repeated. The
keys that a block sees lie in a ring, where each is copied once.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from corelib.sparse.ring import Ring
from corelib.sparse.window import Window

BLOCK = 128  # rows: larger blocks waste more of each mask, smaller ones more calls


def window_attention(
    query: Float[Tensor, "batch head row dim"],
    key: Float[Tensor, "batch kv_head key dim"],
    value: Float[Tensor, "batch kv_head key value_dim"],
    window: Window,
    *,
    scaling: float,
    offset: int = 0,
    mask: Bool[Tensor, "batch mask_head row key"] | None = None,
    first: Int[Tensor, " batch"] | None = None,
    block: int = BLOCK,
) -> Float[Tensor, "batch row head value_dim"]:
    """softmax(q Kᵀ · scaling) V over the keys that `window` shows.

    Row r stands at `offset` + r on the key axis. A `mask` takes further keys away (True may be seen); `first` is where
    each sequence begins behind its padding. A row with no key left puts out zero. Of a sequence that is shorter than
    the sinks, all keys are sinks. `block` rows are taken at once. Dtype and device are those of `query`.

    >>> states, value = torch.zeros(1, 1, 4, 1), torch.arange(4.0)[None, None, :, None]
    >>> window_attention(states, states, value, Window(2, sinks=1), scaling=1.0)[0, :, 0, 0]  # the last: 0, 2 and 3
    tensor([0.0000, 0.5000, 1.0000, 1.6667])
    """
    batch, heads, rows, _ = query.shape
    keys, group = key.shape[2], heads // key.shape[1]
    begins = torch.zeros(1, dtype=torch.long, device=key.device) if first is None else first
    sinks = begins[:, None] + torch.arange(min(window.sinks, keys), device=key.device)  # [batch or 1, sink]
    folded = torch.unflatten(query, 1, (key.shape[1], group))  # [batch, kv_head, group, row, dim]
    out = query.new_empty(batch, rows, heads, value.shape[-1])
    ring = Ring(key, value, sinks.clamp(max=keys - 1), window.width, min(block, rows))
    usual: dict[int, Tensor] = {}  # far from the beginning, all blocks have the same mask, but for the ring's turn
    for start in range(0, rows, block):
        stop = min(start + block, rows)
        ring.hold(max(0, offset + start - window.width + 1), offset + stop)
        far = mask is None and first is None and offset + start - window.width >= window.sinks and stop - start == block
        bias = usual.get(ring.turn) if far else None
        if bias is None:
            seen = _seen(window, sinks, ring.positions, slice(offset + start, offset + stop), begins)
            if mask is not None:
                seen = seen & _given(mask[:, :, start:stop], sinks, ring.positions)
            bias = _fold(torch.zeros_like(seen, dtype=query.dtype).masked_fill_(~seen, -torch.inf), heads, group)
        if far:
            usual[ring.turn] = bias
        one = folded[:, :, :, start:stop].flatten(2, 3)  # [batch, kv_head, group · row, dim]
        found = scaled_dot_product_attention(one, ring.key, ring.value, bias, scale=scaling)
        found = torch.unflatten(found, 2, (group, -1)).flatten(1, 2).transpose(1, 2)  # [batch, row, head, dim]
        if mask is not None:
            found = found.masked_fill(~seen.any(-1).mT[..., None], 0.0)
        out[:, start:stop] = found
    return out


def _seen(
    window: Window,
    sinks: Int[Tensor, "#batch sink"],
    near: Int[Tensor, " near"],
    rows: slice,
    begins: Int[Tensor, " #batch"],
) -> Bool[Tensor, "#batch 1 row key"]:
    """What a block of rows sees of the sinks and the near keys; a key that is both counts as a sink."""
    keys = torch.cat([sinks, near.expand(len(sinks), -1)], 1) - begins[:, None]
    places = torch.arange(rows.start, rows.stop, device=sinks.device) - begins[:, None]
    seen = window.seen(places[:, :, None], keys[:, None]) & (keys >= 0)[:, None]
    seen[..., sinks.shape[1] :] &= keys[:, None, sinks.shape[1] :] >= window.sinks
    return seen[:, None]


def _given(mask: Bool[Tensor, "batch mask_head row key"], sinks: Int[Tensor, "#batch sink"], near: Tensor) -> Tensor:
    """The columns of a mask that belong to the sinks and the near keys."""
    sinks = sinks.clamp(max=mask.shape[-1] - 1)  # no row sees a sink behind the last key
    index = sinks[:, None, None].expand(len(mask), *mask.shape[1:3], -1)
    return torch.cat([mask.gather(-1, index), mask[..., near.clamp(min=0)]], -1)


def _fold(bias: Float[Tensor, "#batch mask_head row key"], heads: int, group: int) -> Float[Tensor, "#batch _ _ key"]:
    """The mask of query heads that are folded into the rows of their key/value head."""
    if bias.shape[1] == 1:
        return bias.repeat(1, 1, group, 1)
    return torch.unflatten(bias, 1, (heads // group, group)).flatten(2, 3)
