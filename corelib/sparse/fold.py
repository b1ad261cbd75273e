"""Sink and window attention in plain torch: exact for any length, and no tensor grows with rows · keys.

The rows are taken in blocks. The rows of a block see nearly the same keys: the sinks, and the `width` keys before the
block up to the block itself. So each block is one small dense attention with a mask, and its cost does not depend on
how long the sequence is. Query heads that share a key/value head are folded into its rows: keys are never repeated.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from corelib.errors import BadInput
from corelib.sparse.window import Window

BLOCK = 128  # rows: larger blocks waste more of each mask, smaller ones more calls


def window_attention(
    query: Float[Tensor, "batch head row dim"],
    key: Float[Tensor, "batch kv_head key dim"],
    value: Float[Tensor, "batch kv_head key dim"],
    window: Window,
    *,
    scaling: float,
    offset: int = 0,
    mask: Bool[Tensor, "batch mask_head row key"] | None = None,
    first: Int[Tensor, " batch"] | None = None,
    block: int = BLOCK,
) -> Float[Tensor, "batch row head dim"]:
    """softmax(q Kᵀ · scaling) V over the keys that `window` shows.

    Row r stands at `offset` + r on the key axis. A `mask` takes further keys away (True may be seen); `first` is where
    each sequence begins behind its padding. A row with no key left puts out zero.
    """
    batch, heads, rows, _ = query.shape
    keys, group = key.shape[2], heads // key.shape[1]
    begins = torch.zeros(1, dtype=torch.long, device=key.device) if first is None else first
    if int(begins.max()) + window.sinks > keys:
        raise BadInput(f"{window.sinks} sinks, but a sequence has {keys - int(begins.max())} tokens: take fewer")
    sinks = begins[:, None] + torch.arange(window.sinks, device=key.device)  # [batch or 1, sink]
    folded = query.unflatten(1, (key.shape[1], group))  # [batch, kv_head, group, row, dim]
    out = query.new_empty(batch, rows, heads, value.shape[-1])
    usual = None  # far from the beginning, all blocks have the same mask
    for start in range(0, rows, block):
        stop = min(start + block, rows)
        lowest = offset + start - window.width + 1  # the first key that the first row sees, sinks aside
        near = slice(max(0, lowest), offset + stop)
        inside = mask is None and first is None and lowest >= window.sinks and stop - start == block
        if not inside or usual is None:
            seen = _seen(window, sinks, near, slice(offset + start, offset + stop), begins)
            if mask is not None:
                seen = seen & _given(mask[:, :, start:stop], sinks, near)
            bias = _fold(torch.zeros_like(seen, dtype=query.dtype).masked_fill_(~seen, -torch.inf), heads, group)
        if inside:
            usual = bias
        one = folded[:, :, :, start:stop].flatten(2, 3)  # [batch, kv_head, group · row, dim]
        k, v = (torch.cat([_at(all, sinks), all[:, :, near]], 2) for all in (key, value))
        found = scaled_dot_product_attention(one, k, v, bias, scale=scaling)
        found = found.unflatten(2, (group, -1)).flatten(1, 2).transpose(1, 2)  # [batch, row, head, dim]
        if mask is not None:
            found = found.masked_fill(~seen.any(-1).mT[..., None], 0.0)
        out[:, start:stop] = found
    return out


def _seen(
    window: Window,
    sinks: Int[Tensor, "#batch sink"],
    near: slice,
    rows: slice,
    begins: Int[Tensor, " #batch"],
) -> Bool[Tensor, "#batch 1 row key"]:
    """What a block of rows sees of the sinks and the near keys; a key that is both counts as a sink."""
    axis = torch.arange(near.start, near.stop, device=sinks.device).expand(len(sinks), -1)
    keys = torch.cat([sinks, axis], 1) - begins[:, None]
    places = torch.arange(rows.start, rows.stop, device=sinks.device) - begins[:, None]
    seen = window.seen(places[:, :, None], keys[:, None]) & (keys >= 0)[:, None]
    seen[..., sinks.shape[1] :] &= keys[:, None, sinks.shape[1] :] >= window.sinks
    return seen[:, None]


def _at(states: Float[Tensor, "batch kv_head key dim"], sinks: Int[Tensor, "#batch sink"]) -> Tensor:
    if len(sinks) == 1:  # all sequences begin at the same place
        return states[:, :, int(sinks[0, 0]) : int(sinks[0, -1]) + 1] if sinks.numel() else states[:, :, :0]
    return states[torch.arange(len(sinks))[:, None], :, sinks].transpose(1, 2)


def _given(mask: Bool[Tensor, "batch mask_head row key"], sinks: Int[Tensor, "#batch sink"], near: slice) -> Tensor:
    """The columns of a mask that belong to the sinks and the near keys."""
    index = sinks[:, None, None].expand(len(mask), *mask.shape[1:3], -1)
    return torch.cat([mask.gather(-1, index), mask[..., near]], -1)


def _fold(bias: Float[Tensor, "#batch mask_head row key"], heads: int, group: int) -> Float[Tensor, "#batch _ _ key"]:
    """The mask of query heads that are folded into the rows of their key/value head."""
    if bias.shape[1] == 1:
        return bias.repeat(1, 1, group, 1)
    return bias.unflatten(1, (heads // group, group)).flatten(2, 3)
