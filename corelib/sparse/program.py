"""The third program of the one attention function: each head reads everything, or what its window shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from corelib.attention.call import AttentionCall, Inner, explicit_mask, require_one_way, sequence_starts
from corelib.attention.chosen import Heads, as_head_set
from corelib.attention.decoder import attention_modules, layer_of
from corelib.attention.interface import is_innermost, running
from corelib.core.errors import BadInput, UnsupportedArchitecture, check_known
from corelib.sparse.dense import full_attention
from corelib.sparse.flex import hybrid_attention
from corelib.sparse.kv import SinkWindowCache, SinkWindowLayer, far_kv_heads
from corelib.sparse.parts import grouped_parts, part_arguments
from corelib.sparse.window import Window
from corelib.sparse.windowed import window_attention

BACKENDS = ("auto", "fold", "flex")
MANY = 128  # rows from which on FlexAttention is worth its launch


class Sparse:
    """What `sparsify` gives: the program, and caches for it.

    Raises:
        UnknownName: there is no such backend.
        BadInput: the model has no such dense head.
        UnsupportedArchitecture: some layers have no softmax attention, or heads are more than one softmax.
    """

    def __init__(self, model: nn.Module, dense: Heads, window: Window, backend: str = "auto") -> None:
        self.backend = check_known("backend", backend, BACKENDS)
        modules = attention_modules(model)
        config: Any = modules[0].config
        self.layers, self.heads = len(modules), int(config.num_attention_heads)
        self.kv_heads = int(getattr(config, "num_key_value_heads", None) or self.heads)
        if [layer_of(module) for module in modules] != list(range(self.layers)):
            raise UnsupportedArchitecture(
                f"{type(model).__name__} has layers without softmax attention: sparsify takes models in which all have"
            )
        self.group = self.heads // self.kv_heads
        self.dense, self.window = as_head_set(dense).check(self.layers, self.heads), window
        self._far = self.dense.by_layer()
        self.running = False
        self._updated: dict[int, SinkWindowLayer] = {}  # layers of a cache, from their update to their attention

    def cache(self) -> SinkWindowCache:
        """A new cache in which key/value heads that no dense head reads keep only sinks and window."""
        kept = far_kv_heads(self.dense, self.group)
        far = [[head for head in range(self.kv_heads) if (layer, head) in kept] for layer in range(self.layers)]
        return SinkWindowCache(far, self.window, self._on_update)

    def _on_update(self, layer: int, mine: SinkWindowLayer) -> None:
        if not self.running:
            raise BadInput(
                "this cache has forgotten keys that other attention reads: use it inside its `with sparsify`"
            )
        self._updated[layer] = mine

    def __call__(self, call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        """The program.

        Raises:
            BadInput: another program was opened inside of it; the layer's own window or cache slides, so that sinks
                are gone; or the mask is not boolean.
            UnsupportedArchitecture: rows see tokens behind them.
        """
        if not is_innermost(call.module, self):
            raise BadInput("sparsify computes the attention itself: open record, ablate or knockout outside of it")
        held, far = self._updated.pop(call.layer, None), self._far.get(call.layer, ())
        if len(far) == self.heads:
            return inner(call)
        require_one_way(call)
        if call.first_key:
            raise BadInput(f"the cache of layer {call.layer} slides, so its sinks are gone: use a DynamicCache()")
        mask = None if call.mask is None else explicit_mask(call)
        begins = sequence_starts(call)  # of the model's own mask: what programs hide moves no sinks
        options: dict[str, Any] = {
            "scaling": call.scaling,
            "offset": call.offset,
            "first": begins if begins.any() else None,
        }
        if held is not None and held.has_evicted:
            out = self._attend_to_kept(call, mask, held, far, options)
        elif self._flexible(call):
            out = hybrid_attention(call.query, call.key, call.value, far, self.window, mask=mask, **options)
        else:  # dense heads are windowed first, too: a few more rows cost less than sorting them out
            out = window_attention(call.query, call.key, call.value, self.window, mask=mask, **options)
            self._attend_densely(out, call, mask, far, None)
        if held is not None:
            held.evict(begins)
        return out

    def _flexible(self, call: AttentionCall) -> bool:
        if self.backend == "auto":
            return call.query.is_cuda and call.query.shape[2] >= MANY
        return self.backend == "flex"

    def _attend_densely(
        self, out: Tensor, call: AttentionCall, mask: Tensor | None, far: Sequence[int], remembered: list[int] | None
    ) -> None:
        for part in grouped_parts(far, self.group):
            found = full_attention(*part_arguments(part, call, mask, remembered), scaling=call.scaling)
            for place, head in enumerate(part.heads):
                out[:, :, head] = found[:, :, place]

    def _attend_to_kept(
        self,
        call: AttentionCall,
        mask: Bool[Tensor, "batch mask_head row key"] | None,
        held: SinkWindowLayer,
        far: Sequence[int],
        options: dict[str, Any],
    ) -> Float[Tensor, "batch row head dim"]:
        """Window attention where some key/value heads have forgotten: over sinks and window as if they were the whole
        sequence, for what lay between is not seen."""
        out = call.query.new_empty(*call.query.shape[::2], call.num_heads, call.value.shape[-1])
        whole = [head for head in range(call.num_heads) if head // self.group in held.far]
        for part in grouped_parts(whole, self.group):
            query, key, value, seen = part_arguments(part, call, mask, held.far)
            out[:, :, part.heads] = window_attention(query, key, value, self.window, mask=seen, **options)
        self._attend_densely(out, call, mask, far, held.far)
        forgot = [head for head in range(call.num_heads) if head not in whole]
        if not forgot:
            return out
        left, seen = held.near, None
        assert left is not None  # it has evicted
        if mask is not None or not left.unique.all():
            seen = left.unique[:, None, None]
            if mask is not None:
                mine = mask if mask.shape[1] == 1 else mask[:, forgot]
                seen = seen & mine.gather(-1, left.places[:, None, None].expand(len(mine), *mine.shape[1:3], -1))
        where: dict[str, Any] = {
            "scaling": call.scaling,
            "offset": left.key.shape[2] - call.query.shape[2],
            "mask": seen,
        }
        out[:, :, forgot] = window_attention(call.query[:, forgot], left.key, left.value, self.window, **where)
        return out


@contextmanager
def sparsify(model: nn.Module, dense: Heads, window: Window, *, backend: str = "auto") -> Iterator[Sparse]:
    """The `dense` heads attend to everything, all others to what `window` shows, in prefill and in decoding: with
    S the keys that a row sees, softmax(q K_Sᵀ · scaling) V_S. Dtype and device are the model's.

    Nothing is approximated: the result is that of masked attention. Nothing falls back: a short sequence takes the
    same way, and may take longer than the model's own attention. Open `record` and `ablate` outside of it; what
    `record` reads there is what a head *would* look at, its window aside.

    `backend` is `fold` (plain torch) or `flex` (FlexAttention, for GPUs); `auto` takes flex on a GPU when many rows are
    read, and fold everywhere else.

    With an ordinary cache, growing or static, all keys are kept. `sparse.cache()` makes one that forgets those that
    nobody will read; programs that read attention (`record`, `oracle_topk`) do not go with it.

    Raises:
        BadInput: the model has no such dense head; and what `running` refuses.
        UnknownName: there is no such backend.
        UnsupportedArchitecture: not every layer has softmax attention, or heads are more than that; inside, for a
            prompt in which rows see tokens behind them, such as a picture in Gemma 3.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=3, **sizes)).eval()
    >>> with sparsify(model, "L1H0", Window(2, sinks=1)) as sparse:
    ...     cache = sparse.cache()
    ...     _ = model(model.dummy_inputs["input_ids"] % 9, past_key_values=cache)
    >>> cache.get_seq_length(), cache.layers[0].near.places[0].tolist(), len(sparse.dense)
    (5, [0, 4], 1)
    """
    sparse = Sparse(model, dense, window, backend)
    with running(model, sparse):
        sparse.running = True
        try:
            yield sparse
        finally:
            sparse.running = False
            sparse._updated.clear()
