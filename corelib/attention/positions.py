"""Where the rows of a forward call stand in the sequence: asked of the cache, before a layer puts its keys there.

Key lengths do not tell. A static cache returns all of its slots, also those that are still empty; a sliding one returns
only the last keys. So a hook on every attention module asks the cache that it is given, and the attention function
takes the answer up.

Source: transformers, "Cache strategies", https://huggingface.co/docs/transformers/kv_cache
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from transformers import Cache

from corelib.core.errors import UnsupportedArchitecture


@dataclass
class Place:
    """What the cache says before a layer's attention."""

    before: int | None = None  # tokens that the layer has read already; None: there is no cache
    first_key: int = 0  # where in the sequence the first key stands that the layer will get
    static: bool = False  # may it get empty slots behind the last key?
    taken: bool = False  # has the attention function been called?


_noted: WeakKeyDictionary[nn.Module, Place] = WeakKeyDictionary()


def note_place(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """A forward pre-hook of attention modules: ask the cache among the arguments, if there is one."""
    layer = int(module.layer_idx)  # type: ignore[arg-type]  # attention modules have it
    cache = next((one for one in (*kwargs.values(), *args) if isinstance(one, Cache)), None)
    cache = getattr(cache, "self_attention_cache", cache)
    if cache is None:
        _noted[module] = Place()
        return
    static = layer < len(cache.layers) and bool(cache.layers[layer].is_compileable)
    _, first_key = cache.get_mask_sizes(1, layer)
    _noted[module] = Place(int(cache.get_seq_length(layer)), int(first_key), static)


def forget_place(module: nn.Module) -> None:
    """Drop what was noted."""
    _noted.pop(module, None)


def take_place(module: nn.Module, queries: int, keys: int, *, masked: bool) -> tuple[int, int]:
    """Where the first of `queries` rows stands on the key axis, and where in the sequence that axis begins.

    Raises:
        UnsupportedArchitecture: the layer attends twice in one pass, or its keys are not those of its cache.
    """
    place = _noted.get(module, Place())
    if place.taken:
        raise UnsupportedArchitecture(
            f"{type(module).__name__} calls its attention more than once: heads that are made of several softmaxes "
            "(differential attention) are not supported"
        )
    place.taken = True
    if place.before is None:  # no mask and several rows means causal from the first key on
        return (0 if not masked and queries > 1 else keys - queries), 0
    offset = place.before - place.first_key
    if offset + queries > keys or (offset + queries < keys and not place.static):
        raise UnsupportedArchitecture(
            f"{type(module).__name__} {module.layer_idx} reads {keys} keys where its cache has {offset + queries}: "
            "layers that share keys or keep them elsewhere are not supported with a cache; pass use_cache=False"
        )
    return offset, place.first_key
