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

Positions are places in the sequence, padding included, so with a cache one mask serves the prompt and the decoding
steps: every forward call records those of its own rows that are marked. Growing, static and sliding caches all do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from corelib.attention.call import AttentionCall, Inner, attention_rows
from corelib.attention.interface import running
from corelib.attention.selection import Positions, Selection, row_index
from corelib.core.errors import BadInput

__all__ = ["AttentionRecord", "Reducer", "record", "row_index"]

Reducer: TypeAlias = Callable[[AttentionCall, Float[Tensor, "batch head row key"]], Tensor | None]
Span: TypeAlias = tuple[Int[Tensor, "batch row"], Bool[Tensor, "batch row"]]


@dataclass
class AttentionRecord:
    """What `record` wrote: for every layer, one tensor for each forward call that had rows to read.

    `kept[layer]` holds what the reducer returned, or float32 attention [batch, head, row, key], on that layer's device.
    """

    rows: Selection
    reduce: Reducer | None = None
    kept: dict[int, list[Tensor]] = field(default_factory=dict)
    _batch: int | None = field(default=None, repr=False)
    _spans: dict[tuple[int, int, torch.device], Span] = field(default_factory=dict, repr=False)

    def __call__(self, call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        """The program: let the model compute its attention, and read some rows of it beside.

        Raises:
            BadInput: the rows do not fit the batch, the batch has another size than that of the pass before, or a
                reducer meets a cache that has slid.
        """
        out = inner(call)
        index, valid = self._span(call)
        if index.shape[1]:
            with torch.no_grad():
                attention = attention_rows(call, index) * valid[:, None, :, None]
                kept = self._reduced(call, attention)
            if kept is not None:
                self.kept.setdefault(call.layer, []).append(kept)
        return out

    def _reduced(self, call: AttentionCall, attention: Float[Tensor, "batch head row key"]) -> Tensor | None:
        if self.reduce is None:
            return pad(attention, (call.first_key, 0))
        if call.first_key:
            raise BadInput(
                f"the cache of layer {call.layer} slides and has dropped {call.first_key} keys, so a reducer would "
                "take one key for another: record without one, or in one forward call"
            )
        return self.reduce(call, attention)

    def _span(self, call: AttentionCall) -> Span:
        """The marked rows of this forward call; found once on each device."""
        batch, queries = call.query.shape[0], call.query.shape[2]
        if self._batch not in (None, batch):
            raise BadInput(
                f"a batch of {batch} after one of {self._batch} in one record: their rows cannot be joined; open a "
                "record for each"
            )
        self._batch = batch
        where = (call.position, queries, call.query.device)
        if where not in self._spans:
            index, valid = row_index(self.rows.of_rows(call))
            self._spans[where] = index.to(where[2]), valid.to(where[2])
        return self._spans[where]

    @property
    def attention(self) -> dict[int, Float[Tensor, "batch head row key"]]:
        """The rows of all forward calls, in order; keys that did not exist yet have attention 0. Needs no reducer.

        Raises:
            BadInput: there is a reducer.
        """
        if self.reduce is not None:
            raise BadInput("this record keeps what its reducer returned: read recorded.kept or recorded.stack()")
        return {layer: _join(parts) for layer, parts in sorted(self.kept.items())}

    def stack(self) -> Float[Tensor, "layer ..."]:
        """All layers in one tensor, on the first one's device. Several forward calls are joined on the row axis (batch,
        head, *row*, …).

        Raises:
            BadInput: nothing was recorded, or the reducer dropped the row axis that is to be joined.
        """
        if not self.kept:
            raise BadInput("nothing was recorded: run the model inside the with block, with at least one row marked")
        layers = [_join(parts) for _, parts in sorted(self.kept.items())]
        return torch.stack([layer.to(layers[0].device) for layer in layers])


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
def record(model: nn.Module, rows: Positions, reduce: Reducer | None = None) -> Iterator[AttentionRecord]:
    """Read the attention softmax(q Kᵀ · scaling) of the marked rows in every decoder layer.

    `rows` is a boolean mask [batch, key] on any device, which covers the prompt and, if decoding steps are to be read,
    those too; or position numbers in increasing order: one or a list for all sequences, a list or a row of an integer
    tensor [batch, row] for each. -1 is the last position of the prompt.

    `reduce(call, attention)` sees each layer's rows once, with the call they belong to (its layer, keys, values), and
    returns what to keep (None: nothing). By default all is kept. Attention is float32, on the layer's device; rows that
    pad a shorter selection are zero, and `row_index(rows)` says which they are.

    Raises:
        BadInput: rows are no mask and no numbers, or do not fit the batch; and what `running` refuses.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=3, **sizes))
    >>> with record(model, rows=-1) as recorded:
    ...     _ = model(torch.tensor([[1, 2, 3, 4]]))
    >>> recorded.stack().shape  # [layer, batch, head, row, key]
    torch.Size([3, 1, 2, 1, 4])
    """
    if reduce is not None and not callable(reduce):
        raise BadInput(f"reduce is {reduce!r:.60}: give a function of (call, attention)")
    recorded = AttentionRecord(Selection("rows", rows), reduce)
    with running(model, recorded):
        yield recorded
