"""Read the attention of a few query rows, while the model runs at its own speed.

Eager attention with `output_attentions=True` keeps `layers · heads · N²` numbers. Retrieval Attention Mass asks only
what a handful of rows look at, so `record` computes `softmax(q_rows Kᵀ)` beside the model's own attention:
O(rows · N · heads) time and, with a reducer, next to no memory. The model's outputs do not change.

    with record(model, rows) as recorded:              # rows: [batch, key], True where attention is to be read
        model(**inputs)
    recorded.attention[layer]                          # [batch, head, row, key]

    with record(model, rows, reduce=lambda call, attention: attention.amax(-1)) as recorded:
        model(**inputs)
    recorded.stack()                                   # [layer, batch, head, row]

Positions are places on the key axis, padding included, so with a cache one mask serves the prompt and the decoding
steps: every forward call records those of its own rows that are marked. Caches must grow with the sequence, as the
default one does; static and sliding caches renumber the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from corelib.attention.interface import AttentionCall, Inner, attention_rows, running
from corelib.core.errors import BadInput

Reducer = Callable[[AttentionCall, Float[Tensor, "batch head row key"]], Tensor | None]


def row_index(rows: Bool[Tensor, "batch key"]) -> tuple[Int[Tensor, "batch row"], Bool[Tensor, "batch row"]]:
    """Positions of the marked rows, left-aligned and padded with 0, and which of them are real.

    >>> index, valid = row_index(torch.tensor([[False, True, True], [False, False, True]]))
    >>> index.tolist(), valid.tolist()
    ([[1, 2], [2, 0]], [[True, True], [True, False]])
    """
    counts = rows.sum(1)
    longest = int(counts.max())
    index = rows.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    valid = torch.arange(longest, device=rows.device) < counts[:, None]
    return index.masked_fill(~valid, 0), valid


@dataclass
class AttentionRecord:
    """What `record` wrote: for every layer, one tensor for each forward call that had rows to read."""

    rows: Bool[Tensor, "batch key"]
    reduce: Reducer | None = None
    kept: dict[int, list[Tensor]] = field(default_factory=dict)
    spans: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        """The program: let the model compute its attention, and read some rows of it beside."""
        out = inner(call)
        index, valid = self._span(call)
        if index.shape[1]:
            with torch.no_grad():
                attention = attention_rows(call, index) * valid[:, None, :, None]
                kept = attention if self.reduce is None else self.reduce(call, attention)
            if kept is not None:
                self.kept.setdefault(call.layer, []).append(kept)
        return out

    def _span(self, call: AttentionCall) -> tuple[Int[Tensor, "batch row"], Bool[Tensor, "batch row"]]:
        """The marked rows of this forward call; found once, in its first layer."""
        where = (call.offset, call.query.shape[2])
        if where not in self.spans:
            batch, width = call.query.shape[0], self.rows.shape[1]
            if self.rows.shape[0] != batch or (call.offset == 0 and where[1] > width):
                raise BadInput(
                    f"rows is {list(self.rows.shape)}, but the model reads {[batch, where[1]]} (batch, positions): "
                    "mark the rows of every sequence over the whole prompt, padding included"
                )
            window = call.kwargs.get("sliding_window")
            if window and 0 < call.offset and call.key.shape[2] >= window:
                raise BadInput(f"the cache slides (window {window}), so positions are lost: record in one forward call")
            marked = self.rows[:, call.offset : call.offset + where[1]].to(call.query.device)
            self.spans[where] = row_index(marked)
        return self.spans[where]

    @property
    def attention(self) -> dict[int, Float[Tensor, "batch head row key"]]:
        """The rows of all forward calls, in order; keys that did not exist yet have attention 0. Needs no reducer."""
        if self.reduce is not None:
            raise BadInput("this record keeps what its reducer returned: read recorded.kept or recorded.stack()")
        return {layer: _join(parts) for layer, parts in sorted(self.kept.items())}

    def stack(self) -> Float[Tensor, "layer ..."]:
        """All layers in one tensor. Several forward calls are joined on the row axis (batch, head, *row*, …)."""
        if not self.kept:
            raise BadInput("nothing was recorded: run the model inside the with block, with at least one row marked")
        return torch.stack([_join(parts) for _, parts in sorted(self.kept.items())])


def _join(parts: list[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    if parts[0].ndim < 3:
        raise BadInput(
            "the reducer dropped the row axis, so several forward calls cannot be joined: read recorded.kept"
        )
    if parts[0].ndim == 4:
        longest = max(part.shape[-1] for part in parts)
        parts = [pad(part, (0, longest - part.shape[-1])) for part in parts]
    return torch.cat(parts, dim=2)


@contextmanager
def record(
    model: nn.Module, rows: Bool[Tensor, "batch key"], reduce: Reducer | None = None
) -> Iterator[AttentionRecord]:
    """Read the attention of the marked rows in every decoder layer.

    `reduce(call, attention)` sees each layer's rows once, with the call they belong to (its layer, keys, values), and
    returns what to keep (None: nothing). Rows that pad a shorter selection are zero; `row_index(rows)` says which they
    are.
    """
    if rows.dtype != torch.bool or rows.ndim != 2:
        raise BadInput(f"rows is {rows.dtype} {list(rows.shape)}: give a boolean mask [batch, key]")
    recorded = AttentionRecord(rows, reduce)
    with running(model, recorded):
        yield recorded
