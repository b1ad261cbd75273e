"""Sink and window attention in plain torch: exact for any length, and no tensor grows with rows · keys.

The rows are taken in blocks. The rows of a block see nearly the same keys: the sinks, and the `width` keys before the
block up to the block itself. So each block is one small dense attention with a mask, and its cost does not depend on
how long the sequence is. Query heads that share a key/value head are folded into its rows: keys are never repeated.

Far from the beginning of a sequence without padding all blocks have the same mask. They are read a few at a time, as if
each were a sequence of its own in a batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from corelib.sparse.window import Window

BLOCK = 64  # rows: larger blocks waste more of each mask, smaller ones more calls
TOGETHER = 4  # blocks in one call: their keys should stay in a processor's cache


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
    far = range(0)  # the first rows of blocks that see all sinks, all of the window, and no padding
    if mask is None and first is None:
        behind = max(0, window.sinks + window.width - 1 - offset)
        far = range(-(-behind // block) * block, rows - block + 1, block)
    first_keys, first_values = (_at(states, sinks.clamp(max=keys - 1)) for states in (key, value))
    for start in range(0, rows, block):
        if start in far:
            continue
        stop = min(start + block, rows)
        near = slice(max(0, offset + start - window.width + 1), offset + stop)
        places = torch.arange(near.start, near.stop, device=key.device)
        seen = _seen(window, sinks, places, slice(offset + start, offset + stop), begins)
        if mask is not None:
            seen = seen & _given(mask[:, :, start:stop], sinks, places)
        bias = _fold(torch.zeros_like(seen, dtype=query.dtype).masked_fill_(~seen, -torch.inf), heads, group)
        one = folded[:, :, :, start:stop].flatten(2, 3)  # [batch, kv_head, group · row, dim]
        shown_keys = torch.cat([first_keys, key[:, :, near]], 2)
        shown_values = torch.cat([first_values, value[:, :, near]], 2)
        found = scaled_dot_product_attention(one, shown_keys, shown_values, bias, scale=scaling)
        found = torch.unflatten(found, 2, (group, -1)).flatten(1, 2).transpose(1, 2)  # [batch, row, head, dim]
        if mask is not None:
            found = found.masked_fill(~seen.any(-1).mT[..., None], 0.0)
        out[:, start:stop] = found
    if far:
        sides = (first_keys, key), (first_values, value)
        _attend_far(out, folded, *sides, window, far, offset=offset, scaling=scaling)
    return out


def _attend_far(
    out: Float[Tensor, "batch row head value_dim"],
    query: Float[Tensor, "batch kv_head group row dim"],
    keys: tuple[Tensor, Tensor],
    values: tuple[Tensor, Tensor],
    window: Window,
    far: range,
    *,
    offset: int,
    scaling: float,
) -> None:
    """Fill in the rows of the `far` blocks, which all see their own window under one mask. `keys` and `values` are
    those of the sinks, and all of them."""
    batch, _, group = query.shape[:3]
    block, before = far.step, window.width - 1
    rows = before + torch.arange(block, device=query.device)
    seen = window.seen(window.sinks + rows[:, None], window.sinks + torch.arange(before + block, device=query.device))
    seen = torch.cat([seen.new_ones(block, window.sinks), seen], 1)
    bias = torch.zeros_like(seen, dtype=query.dtype).masked_fill_(~seen, -torch.inf).repeat(group, 1)
    together = min(TOGETHER, len(far))
    sides = [(_copies(sinks, before + block, together), states) for sinks, states in (keys, values)]
    for first in far[::together]:
        count = min(together, (far.stop - first + block - 1) // block)
        mine = slice(first, first + count * block)
        near = slice(offset + first - before, offset + mine.stop)
        for copies, states in sides:
            windows = states[:, :, near].unfold(2, before + block, block)  # [batch, kv_head, block, dim, near]
            copies[:count, :, :, window.sinks :] = windows.permute(2, 0, 1, 4, 3)
        parts = query[:, :, :, mine].unflatten(3, (count, block)).permute(3, 0, 1, 2, 4, 5)
        one = parts.flatten(3, 4).flatten(0, 1)  # [block · batch, kv_head, group · row, dim]
        shown_keys, shown_values = (copies[:count].flatten(0, 1) for copies, _ in sides)
        found = scaled_dot_product_attention(one, shown_keys, shown_values, bias, scale=scaling)
        found = found.unflatten(2, (group, block)).unflatten(0, (count, batch)).permute(1, 0, 4, 2, 3, 5)
        out[:, mine] = found.flatten(3, 4).flatten(1, 2)


def _copies(
    sinks: Float[Tensor, "batch kv_head sink dim"], near: int, count: int
) -> Float[Tensor, "count batch kv_head sink+near dim"]:
    """Room for the keys that each of several blocks sees, the sinks filled in."""
    empty = sinks.new_empty(*sinks.shape[:2], near, sinks.shape[-1])
    return torch.cat([sinks, empty], 2).repeat(count, 1, 1, 1, 1)


def _at(
    states: Float[Tensor, "batch kv_head key dim"], places: Int[Tensor, "#batch sink"]
) -> Float[Tensor, "batch kv_head sink dim"]:
    if len(places) == 1:  # all sequences begin at the same place
        return states[:, :, places[0]]
    return states[torch.arange(len(places), device=places.device)[:, None], :, places].transpose(1, 2)


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
