"""The first layers of a decoder, run once: what they said is kept, and said again in their place.

    said = []
    with kept_layers(model, said):
        model(**inputs)
    with skipped_layers(model, said[:17]):
        model(**inputs)                     # runs from layer 17 on

It is the caller who knows that the first layers would say the same again. What a model adds between layers, it adds
again. A skipped layer fills no key/value cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from torch import Tensor, nn

from corelib.core.errors import BadInput
from corelib.replay.recorder import decoder

Said: TypeAlias = Tensor | tuple[Any, ...]  # what a layer returned: the stream, in old versions first of several things


@contextmanager
def kept_layers(model: nn.Module, said: list[Said]) -> Iterator[None]:
    """Append to `said` a copy of what each decoder layer returns, in order: [sequence, position, width], in the model's
    dtype, on the layer's device.

    Raises: UnsupportedArchitecture if the decoder cannot be taken apart.

    >>> from corelib import load, task
    >>> vlm, said = load("mini-s"), []
    >>> with kept_layers(vlm.model, said):
    ...     _ = vlm.model(**vlm.encode(task("scenes").samples("test", 0, 1)).inputs)
    >>> len(said)
    6
    """
    blocks, _ = decoder(model)
    handles = [block.register_forward_hook(lambda *given: said.append(_copied(given[-1]))) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def skipped_layers(model: nn.Module, said: Sequence[Said]) -> Iterator[None]:
    """The first layers say what they `said`, without computing it.

    Raises: UnsupportedArchitecture if the decoder cannot be taken apart; BadInput if it has fewer layers.
    """
    blocks, _ = decoder(model)
    if len(said) > len(blocks):
        raise BadInput(f"{len(said)} layers to skip, and the decoder has {len(blocks)}")
    skipped = blocks[: len(said)]
    for block, mine in zip(skipped, said, strict=True):
        block.forward = _saying(mine)
    try:
        yield
    finally:
        for block in skipped:
            del block.forward  # the method of the class is there again


def _saying(said: Said) -> Any:
    return lambda *given, **options: _copied(said)


def _copied(said: Said) -> Said:
    """A copy: models add to the stream in place."""
    return said.clone() if isinstance(said, Tensor) else (said[0].clone(), *said[1:])
