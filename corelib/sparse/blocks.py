"""A rest that chooses: heads that are not dense see the blocks of keys that look most promising to a block of rows.

A window is chosen by place. Here a head's rows, taken in blocks, choose by content: each block of keys is scored by the
product of two means, that of the block's queries and that of its keys,

    score(R, K) = mean_{r ∈ R} q_r · mean_{k ∈ K} k_k

and the rows of R see the `count` blocks of highest score, their own block, the one before it, and the sinks. Nothing is
trained. This is a reference: it masks dense attention, and saves no time.

Source: blocks chosen by pooled scores are in MInference (Jiang et al. 2024, arXiv:2407.02490), Quest (Tang et al. 2024,
arXiv:2406.10774) and XAttention (Xu et al. 2025, arXiv:2503.16428); this form is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from corelib.attention.call import AttentionCall, Inner, explicit_mask, require_keys, require_one_way
from corelib.attention.chosen import Heads, heads_by_layer
from corelib.attention.interface import running
from corelib.core.errors import BadInput


@dataclass(frozen=True)
class Blocks:
    """`count` blocks of `size` keys, beside the own block, the one before it, and the `sinks` first keys.

    Raises:
        BadInput: count or sinks are below 0, or size below 1.

    >>> Blocks(2, size=16).mean_seen(64)  # 8.5 of its own block; 0, 16, 32, 48 behind
    32.5
    """

    count: int
    size: int = 32
    sinks: int = 4

    def __post_init__(self) -> None:
        for name, least in (("count", 0), ("size", 1), ("sinks", 0)):
            given = getattr(self, name)
            if isinstance(given, bool) or not isinstance(given, int) or given < least:
                raise BadInput(f"{name} is {given!r}: give a whole number, {least} or more")

    def mean_seen(self, rows: int) -> float:
        """How many keys a row sees on average, over `rows` rows from the beginning, if no block holds a sink twice."""
        row = torch.arange(rows)
        own = row % self.size + 1
        behind = torch.minimum(row - row % self.size, torch.tensor(self.size * (self.count + 1) + self.sinks))
        return float((own + behind).double().mean())


def blocks_for(keys: float, rows: int, *, size: int = 32, sinks: int = 4) -> Blocks:
    """As many blocks as make a row see about so many keys on average.

    Raises:
        BadInput: as `Blocks`.

    >>> blocks_for(260, 4096)
    Blocks(count=7, size=32, sinks=4)
    """
    some = (Blocks(count, size, sinks) for count in range(-(-rows // size) + 1))
    return min(some, key=lambda one: abs(one.mean_seen(rows) - keys))


def block_mask(
    query: Float[Tensor, "batch head row dim"],
    key: Float[Tensor, "batch head key dim"],
    blocks: Blocks,
    offset: int = 0,
) -> Bool[Tensor, "batch head row key"]:
    """Which keys each row sees: row r stands at `offset` + r, and sees no key behind it.

    The rows of a block that are given together choose together. Scores are compared in float32; of equal ones, the
    first blocks are taken. The result lies on the device of `query`.

    >>> query = key = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0])[None, None, :, None]
    >>> block_mask(query, key, Blocks(1, size=2, sinks=0))[0, 0, 6].int().tolist()  # the first block is like the last
    [1, 1, 0, 0, 1, 1, 1, 0]
    """
    rows, keys, size = query.shape[2], key.shape[2], blocks.size
    row, at = (torch.arange(length, device=query.device) for length in (rows, keys))
    row_block, key_block = (offset + row) // size, at // size
    scores = _pooled(query.float(), row_block - row_block[0]) @ _pooled(key.float(), key_block).mT
    mine, other = (torch.arange(many, device=row.device) for many in scores.shape[2:])
    mine = mine + row_block[0]
    far = other < mine[:, None] - 1  # own block and the one before are seen anyway
    best = scores.masked_fill(~far, -torch.inf).sort(dim=-1, descending=True, stable=True).indices[..., : blocks.count]
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True) & far
    chosen |= (other <= mine[:, None]) & (other >= mine[:, None] - 1)
    seen = chosen[:, :, row_block - row_block[0]][..., key_block] | (at < blocks.sinks)
    return seen & (at <= offset + row[:, None])


def _pooled(
    states: Float[Tensor, "batch head place dim"], block: Int[Tensor, " place"]
) -> Float[Tensor, "batch head block dim"]:
    """The mean of each block's states."""
    total = states.new_zeros(*states.shape[:2], int(block[-1]) + 1, states.shape[-1]).index_add(2, block, states)
    return total / block.bincount()[:, None]


@contextmanager
def choose_blocks(model: nn.Module, dense: Heads, blocks: Blocks) -> Iterator[None]:
    """The `dense` heads attend to everything, all others to the blocks of keys that they choose. Dtype and device are
    the model's; a mask of rows · keys is made for each head, so it is for up to a few thousand tokens, without padding
    before them.

    Raises:
        BadInput: the model has no such dense head; keys are missing (`sparsify` with its own cache); and what `running`
            refuses.
        UnsupportedArchitecture: inside, for a prompt in which rows see tokens behind them.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **sizes)).eval()
    >>> with choose_blocks(model, "L0H1", Blocks(1, size=2)):
    ...     _ = model(torch.tensor([[1, 2, 3, 4]]))
    """
    far = heads_by_layer(model, dense)

    def program(call: AttentionCall, inner: Inner) -> Tensor:
        require_keys(call)
        require_one_way(call)
        key = call.key.repeat_interleave(call.num_heads // call.num_kv_heads, 1)
        mask = block_mask(call.query, key, blocks, call.offset)
        mask[:, list(far.get(call.layer, ()))] = True
        return inner(replace(call, mask=mask & explicit_mask(call)))

    with running(model, program):
        yield
