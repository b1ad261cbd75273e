"""The same with FlexAttention: one kernel for dense and windowed heads together, made for GPUs.

A block mask says for each head and each block of rows which blocks of keys are to be computed. It is written down from
the window, block by block, so that no mask of rows · keys is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from corelib.sparse.window import Window

BLOCK = 128
Sees: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # of batch, head, row and key


def hybrid_attention(
    query: Float[Tensor, "batch head row dim"],
    key: Float[Tensor, "batch kv_head key dim"],
    value: Float[Tensor, "batch kv_head key dim"],
    dense: Sequence[int],
    window: Window,
    *,
    scaling: float,
    offset: int = 0,
    mask: Bool[Tensor, "batch mask_head row key"] | None = None,
    first: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch row head dim"]:
    """Attention in which the `dense` heads see all keys up to their row, and the others what `window` shows.

    Arguments are those of `windowed.window_attention`, and so is the result. Compiled on a GPU; on a CPU it runs
    plainly, for tests.

    Source: Dong et al. (2024), "Flex Attention", arXiv:2412.05496.

    >>> states, value = torch.zeros(1, 2, 4, 16), torch.arange(4.0)[None, None, :, None].expand(1, 2, 4, 16)
    >>> out = hybrid_attention(states, states, value, dense=[1], window=Window(1, sinks=1), scaling=1.0)
    >>> out[0, 3, :, 0].tolist()  # the last row: of 0 and 3, and of all
    [1.5, 1.5]
    >>> out[0, 1, :, 0].tolist()
    [0.5, 0.5]
    """
    heads, rows, keys = query.shape[1], query.shape[2], key.shape[2]
    if mask is None:
        blocks = plain_blocks(tuple(dense), heads, rows, keys, offset, window, query.device)
    else:
        blocks = masked_blocks(dense, heads, offset, window, mask, first)
    attend: Any = _compiled() if query.is_cuda else flex_attention
    out: Tensor = attend(query, key, value, block_mask=blocks, scale=scaling, enable_gqa=heads != key.shape[1])
    return out.transpose(1, 2)


@cache
def _compiled() -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=False)
    return compiled


@lru_cache(maxsize=256)  # layers ask for few different ones
def plain_blocks(
    dense: tuple[int, ...], heads: int, rows: int, keys: int, offset: int, window: Window, device: torch.device
) -> BlockMask:
    """The blocks of `heads` heads where nothing is masked but what `window` and causality hide."""
    low, high = (_bounds(length, start, device) for length, start in ((rows, offset), (keys, 0)))
    (row, last_row), (key, last_key) = ((one[0][:, None], one[1][:, None]) for one in (low, high))
    key, last_key = key.T, last_key.T
    reached, whole = key <= last_row, last_key <= row
    near = reached & ((key < window.sinks) | (last_key > row - window.width))
    filled = whole & ((last_key < window.sinks) | (key > last_row - window.width))
    sees = _seeing(dense, heads, offset, window, device)
    return _blocks(dense, heads, torch.stack([near, reached]), torch.stack([filled, whole]), sees, (rows, keys), device)


def masked_blocks(
    dense: Sequence[int],
    heads: int,
    offset: int,
    window: Window,
    mask: Bool[Tensor, "batch mask_head row key"],
    first: Int[Tensor, " batch"] | None,
) -> BlockMask:
    """The blocks of `heads` heads under a `mask` whose sequences begin at `first`: none is full."""
    rows, keys, device = *mask.shape[2:], mask.device
    begins = torch.zeros(len(mask), dtype=torch.long, device=device) if first is None else first
    (row, last_row), (key, last_key) = _bounds(rows, offset, device), _bounds(keys, 0, device)
    reached = key <= last_row[:, None]
    near = reached & ((key < window.sinks + begins.max()) | (last_key > row[:, None] - window.width))
    sees, own = _seeing(dense, heads, offset, window, device), mask.shape[1] > 1

    def masked(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return sees(b, h, q - begins[b], k - begins[b]) & mask[b, h if own else 0, q, k]

    none = torch.zeros_like(reached)
    return _blocks(dense, heads, torch.stack([near, reached]), torch.stack([none, none]), masked, (rows, keys), device)


def _seeing(dense: Sequence[int], heads: int, offset: int, window: Window, device: torch.device) -> Sees:
    far = torch.zeros(heads, dtype=torch.bool, device=device)
    far[list(dense)] = True

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        row = q + offset
        return (k <= row) & (far[h] | (k < window.sinks) | (k > row - window.width))

    return sees


def _bounds(length: int, start: int, device: torch.device) -> tuple[Int[Tensor, " block"], Int[Tensor, " block"]]:
    """The first and the last position of every block."""
    begin = torch.arange(0, length, BLOCK, device=device)
    return begin + start, (begin + BLOCK).clamp(max=length) - 1 + start


def _blocks(
    dense: Sequence[int],
    heads: int,
    some: Bool[Tensor, "kind row_block key_block"],
    whole: Bool[Tensor, "kind row_block key_block"],
    sees: Sees,
    lengths: tuple[int, int],
    device: torch.device,
) -> BlockMask:
    """`some` and `whole`, [windowed or dense, row block, key block]: blocks that are seen at all, and in full."""
    kind = torch.zeros(heads, dtype=torch.long, device=device)
    kind[list(dense)] = 1
    partial, full = _listed(some & ~whole), _listed(whole)
    count, index, full_count, full_index = (part[kind][None] for both in (partial, full) for part in both)
    more: dict[str, Any] = {"BLOCK_SIZE": BLOCK, "mask_mod": sees, "seq_lengths": lengths, "compute_q_blocks": False}
    return BlockMask.from_kv_blocks(count, index, full_count, full_index, **more)


def _listed(blocks: Bool[Tensor, "kind row_block key_block"]) -> tuple[Tensor, Tensor]:
    """How many key blocks each block of rows has, and which: those first."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.to(torch.int32)
