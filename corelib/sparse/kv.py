"""A cache that forgets: key/value heads that no dense head reads keep only the sinks and the window.

    with sparsify(vlm.model, dense, Window(512, sinks=64)) as sparse:
        cache = sparse.cache()
        vlm.model.generate(**inputs, past_key_values=cache)
    cache.nbytes

Query heads that share a key/value head share its memory: one dense head keeps all of it. `whole_groups` makes the other
choice, in which heads are dense together with those they share memory with.

While the prompt is read, a layer hands out all its keys and values; once its attention is done, the far ones are
dropped, so that no more than one layer of them is ever held. From then on a layer hands out the keys of the heads that
remember everything, and keeps those of the others for `sparsify` to ask for: other attention cannot use this cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.sparse.window import Window


def far_kv_heads(dense: HeadSet, group: int) -> set[tuple[int, int]]:
    """The key/value heads, as (layer, head), that some dense head reads: those that must remember everything.

    Raises:
        BadInput: `group`, the number of query heads to a key/value head, is below 1.

    >>> sorted(far_kv_heads(HeadSet("L0H1 L2H4 L2H5"), group=2))
    [(0, 0), (2, 2)]
    """
    if group < 1:
        raise BadInput(f"{group} query heads to a key/value head: give 1 or more")
    return {(head.layer, head.index // group) for head in dense}


def whole_groups(dense: HeadSet, group: int) -> HeadSet:
    """The dense heads and all that share a key/value head with one of them, `group` heads to each.

    Raises:
        BadInput: `group` is below 1.

    >>> str(whole_groups(HeadSet("L0H1 L2H5"), group=2))
    'L0H0 L0H1 L2H4 L2H5'
    """
    return HeadSet(
        (layer, head * group + place) for layer, head in far_kv_heads(dense, group) for place in range(group)
    )


@dataclass(frozen=True)
class NearKeys:
    """What the forgetful heads of a layer hold: sinks, then the last keys of the sequence without a gap."""

    key: Float[Tensor, "batch kv_head key dim"]
    value: Float[Tensor, "batch kv_head key dim"]
    places: Int[Tensor, "batch key"]  # where each key stood in the sequence
    unique: Bool[Tensor, "batch key"]  # not a repetition of a sink, and not padding


class SinkWindowLayer(CacheLayerMixin):
    """One layer: `far` key/value heads remember everything, the others what `window` needs.

    Keys and values keep the dtype and device that they come with. `on_update` is called with the layer whenever keys
    arrive.
    """

    is_sliding = False

    def __init__(self, far: list[int], window: Window, on_update: Callable[[SinkWindowLayer], None]) -> None:
        super().__init__()
        self.far, self.window, self._on_update = far, window, on_update
        self.length = 0
        self.near: NearKeys | None = None

    @property
    def has_evicted(self) -> bool:
        """Have far keys been dropped, so that `update` returns those of the far-sighted heads only?"""
        return self.near is not None

    @property
    def nbytes(self) -> int:
        """The memory of its keys and values, in bytes."""
        near = () if self.near is None else (self.near.key, self.near.value)
        return sum(one.nbytes for one in (*self._held(), *near))

    def _held(self) -> tuple[Tensor, ...]:
        """Keys and values of the far-sighted heads, or, before anything is evicted, of all."""
        return () if self.keys is None or self.values is None else (self.keys, self.values)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with no keys, of this dtype and on this device."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Take new keys and values, [batch, kv_head, key, dim]; back come those of all heads, or, once keys are
        evicted, of the far-sighted ones."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        heads, new = key_states.shape[1], key_states.shape[2]
        if self.near is not None:
            other = [head for head in range(heads) if head not in self.far]
            at = torch.arange(self.length, self.length + new, device=self.device).expand(len(self.near.places), -1)
            self.near = NearKeys(
                torch.cat([self.near.key, key_states[:, other]], 2),
                torch.cat([self.near.value, value_states[:, other]], 2),
                torch.cat([self.near.places, at], 1),
                torch.cat([self.near.unique, torch.ones_like(at, dtype=torch.bool)], 1),
            )
            key_states, value_states = key_states[:, self.far], value_states[:, self.far]
        keys, values = self._held()
        self.keys, self.values = torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)
        self.length += new
        self._on_update(self)
        return self.keys, self.values

    def evict(self, begins: Int[Tensor, " #batch"]) -> None:
        """Drop what no later row will see; sequences begin at `begins`, behind their padding."""
        width, sinks = self.window.width - 1, self.window.sinks  # a later row sees itself, too
        if self.near is None:
            if self.length <= sinks + width or self.length < int(begins.max()) + sinks:  # not all have their sinks yet
                return
            keys, values = self._held()
            other = [head for head in range(keys.shape[1]) if head not in self.far]
            first = begins[:, None] + torch.arange(sinks, device=self.device)
            last = torch.arange(self.length - width, self.length, device=self.device).expand(len(first), -1)
            places = torch.cat([first, last], 1)
            unique = torch.cat([torch.ones_like(first, dtype=torch.bool), last >= begins[:, None] + sinks], 1)
            index = places.expand(len(keys), -1)[:, None, :, None].expand(-1, len(other), -1, -1)
            key, value = (
                states[:, other].gather(2, index.expand(-1, -1, -1, states.shape[-1])) for states in (keys, values)
            )
            self.near = NearKeys(key, value, places, unique)
            self.keys, self.values = keys[:, self.far].clone(), values[:, self.far].clone()
            return
        stay = [*range(sinks), *range(self.near.places.shape[1] - width, self.near.places.shape[1])]
        if len(stay) < self.near.places.shape[1]:
            near = self.near
            key, value = near.key[:, :, stay], near.value[:, :, stay]
            self.near = NearKeys(key, value, near.places[:, stay], near.unique[:, stay])

    def get_seq_length(self) -> int:
        """Tokens that were read, padding and evicted ones included."""
        return self.length

    def get_max_length(self) -> int:
        """−1: there is no longest sequence."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The mask covers the whole sequence, evicted keys included."""
        return self.length + query_length, 0

    def reset(self) -> None:
        """Forget everything."""
        self.keys = self.values = self.near = None
        self.is_initialized, self.length = False, 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Refused.

        Raises:
            BadInput: always; beams would need keys that are gone.
        """
        raise BadInput("this cache does not follow beams: generate with num_beams=1")


class SinkWindowCache(Cache):
    """A cache for one model under `sparsify`; `sparse.cache()` makes it."""

    def __init__(self, far: list[list[int]], window: Window, on_update: Callable[[int, SinkWindowLayer], None]) -> None:
        def tell(layer: int) -> Callable[[SinkWindowLayer], None]:
            return lambda mine: on_update(layer, mine)

        super().__init__(layers=[SinkWindowLayer(mine, window, tell(number)) for number, mine in enumerate(far)])

    @property
    def nbytes(self) -> int:
        """The memory of all keys and values that are held, in bytes."""
        return sum(layer.nbytes for layer in self.layers if isinstance(layer, SinkWindowLayer))
