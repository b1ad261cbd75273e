"""How much memory a cache takes, and how long a prompt fits into some, by counting keys and values.

With F of G key/value heads that remember everything (`far_kv_heads`), d numbers to a key, and b bytes to a number, N
tokens take

    2 · b · d · (F · N + (G − F) · min(N, sinks + width − 1)) bytes

Dense attention is F = G.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.sparse.kv import far_kv_heads
from corelib.sparse.window import Window


@dataclass(frozen=True)
class CacheSize:
    """What a model's cache is made of.

    >>> size = CacheSize(kv_heads=90, far=9, dim=64, itemsize=4)
    >>> size.bytes(4096, Window(256, sinks=6)) / size.dense_bytes(4096)  # a tenth whole, the others 261 keys
    0.15734863...
    >>> size.longest(2**30, Window(256, sinks=6)), size.dense_longest(2**30)
    (230667, 23301)
    """

    kv_heads: int  # key/value heads of all layers
    far: int  # those that remember everything
    dim: int  # numbers to a key, and to a value
    itemsize: int  # bytes to a number

    @classmethod
    def of(cls, model: PreTrainedModel, dense: HeadSet) -> CacheSize:
        """Of a model whose `dense` heads read everything, in the dtype of its weights.

        Raises:
            BadInput: the model has no such dense head.
        """
        config: Any = model.config.get_text_config()
        layers, heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        far = far_kv_heads(dense.check(layers, heads), heads // kv_heads)
        return cls(layers * kv_heads, len(far), dim, model.dtype.itemsize)

    def bytes(self, tokens: int, window: Window) -> int:
        """Of so many tokens, where the other heads keep what `window` needs."""
        near = min(tokens, window.sinks + window.width - 1)
        return self._key * (self.far * tokens + (self.kv_heads - self.far) * near)

    def dense_bytes(self, tokens: int) -> int:
        """Of so many tokens, if all heads remember everything."""
        return self._key * self.kv_heads * tokens

    def longest(self, budget: int, window: Window) -> int | None:
        """How many tokens fit into so many bytes; None if there is no limit, because no head remembers everything.

        Raises:
            BadInput: the budget is below 1.
        """
        _check(budget)
        near = window.sinks + window.width - 1
        if self.bytes(near, window) >= budget:  # the windows are not full
            return budget // (self._key * self.kv_heads)
        left = budget - self._key * (self.kv_heads - self.far) * near
        return left // (self._key * self.far) if self.far else None

    def dense_longest(self, budget: int) -> int:
        """How many tokens fit into so many bytes, if all heads remember everything.

        Raises:
            BadInput: the budget is below 1.
        """
        _check(budget)
        return budget // (self._key * self.kv_heads)

    @property
    def _key(self) -> int:
        """Bytes of a key and its value."""
        return 2 * self.dim * self.itemsize


def _check(budget: int) -> None:
    if budget < 1:
        raise BadInput(f"a budget of {budget} bytes: give 1 or more")
