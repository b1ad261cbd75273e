"""Many questions behind one row of pictures, each read as if it stood alone, without a mask of all tokens.

    ▦ ▦ ▦ … ▦        the prefix: N tokens, read causally
    question, answer  turn 1: sees the prefix and itself
    question, answer  turn 2: sees the prefix and itself

A mask of all tokens has (N + T)² entries, and attention that takes one computes them all. The prefix needs no mask, and
the T rows behind it one of T · (N + T) entries: both together are the same attention, at half the price and less.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.models.llama.modeling_llama import eager_attention_forward

from corelib.core.errors import BadInput

NAME = "turns"  # of the attention function below, in transformers
LONG = 4200  # tokens, from which on layers are computed again in backward: their states would take gigabytes


def turn_mask(turns: Int[Tensor, " token"]) -> Bool[Tensor, "1 1 row token"]:
    """Which tokens the rows of the turns see: the prefix (turn 0), and of their own turn what stands before them.

    Raises: BadInput if a token of the prefix stands behind a turn, or is padding.

    >>> turn_mask(torch.tensor([0, 0, 1, 2, 2])).int().tolist()
    [[[[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]]]
    """
    prefix = int((turns == 0).sum())
    if (turns[:prefix] != 0).any():
        raise BadInput("the prefix must stand before all turns, without padding: give one row of pictures at a time")
    place = torch.arange(len(turns), device=turns.device)
    own = (turns[prefix:, None] == turns) & (place <= place[prefix:, None])
    return (own | (turns == 0))[None, None]


def positions(turns: Int[Tensor, " token"], gaps: Int[Tensor, " token"] | None = None) -> Int[Tensor, "1 token"]:
    """Where each token stands: one behind the other in the prefix, and in each turn as if it stood right behind that.

    `gaps` are left out before tokens of the prefix (0: none).

    >>> positions(torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 5, 0, 0, 0])).tolist()
    [[0, 6, 7, 7, 8]]
    """
    skipped = torch.zeros_like(turns) if gaps is None else gaps
    place = torch.arange(len(turns), device=turns.device) + skipped.cumsum(0)
    for turn in range(1, int(turns.max()) + 1):
        place[turns == turn] -= int((turns == turn).nonzero()[0, 0] - (turns == 0).sum())
    return place[None]


def scattered(
    visual: Bool[Tensor, " token"], turns: Int[Tensor, " token"], reach: int, rng: np.random.Generator
) -> Int[Tensor, " token"]:
    """Gaps behind the pictures of a prefix, drawn so that all positions stay below `reach`: a picture stays beside its
    name. How far the pictures spread is drawn, too, and half of the rows have no gap.

    Source: training on skipped positions, to read farther than the prompts are long, is PoSE, Zhu et al. (2023),
    arXiv:2309.10400.

    >>> visual = torch.tensor([False, True, True, False, True, False])
    >>> gaps = scattered(visual, torch.zeros(6, dtype=torch.long), 100, np.random.default_rng(0))
    >>> gaps.nonzero().flatten().tolist(), int(gaps.sum()) <= 94
    ([3, 5], True)
    """
    opens = ~visual & visual.roll(1)
    spare = int(max(0, reach - len(turns)) * max(0.0, 2 * rng.random() - 1) ** 2)  # in half of the rows none
    stops = np.sort(rng.integers(0, spare + 1, int(opens.sum())))
    gaps = torch.zeros_like(turns)
    gaps[opens] = torch.from_numpy(np.diff(stops, prepend=0)).to(gaps)
    return gaps


def attend(
    module: nn.Module,
    query: Float[Tensor, "1 head token dim"],
    key: Float[Tensor, "1 kv_head token dim"],
    value: Float[Tensor, "1 kv_head token dim"],
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Float[Tensor, "1 token head dim"], None]:
    """Attention over a prefix, causal, and turns, under a mask of their own rows; any other call is eager attention's.

    What transformers calls under the name `NAME`.
    """
    rows = 0 if attention_mask is None else attention_mask.shape[2]
    if attention_mask is None or attention_mask.dtype != torch.bool or rows == query.shape[2]:
        out: tuple[Tensor, Any] = eager_attention_forward(
            module, query, key, value, attention_mask, scaling, dropout, **kwargs
        )
        return out[0], None
    group, first = query.shape[1] // key.shape[1], query.shape[2] - rows
    key, value = (states.repeat_interleave(group, 1) for states in (key, value))
    before = scaled_dot_product_attention(
        query[:, :, :first], key[:, :, :first], value[:, :, :first], scale=scaling, is_causal=True
    )
    behind = scaled_dot_product_attention(query[:, :, first:], key, value, attention_mask, scale=scaling)
    return torch.cat([before, behind], 2).transpose(1, 2), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)
