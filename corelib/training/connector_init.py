"""What the bridge's tower states, put into the language model's words.

The tower learned its facts in directions of their own (`tower_supervision.py`). The language model knows none of them,
and did not find them in the trials that were made: it answered without looking at the picture. Large models meet the
same gap, and close it by first training a connector on captions. Here it is closed by a translation: a linear map,
multiplied into the connector once, that turns the direction of each fact into that of a word.

    on red, digit 0: 7, field room      →  red, 7, room: the words themselves, as they stand in a question
    left red, digit 1: 7, …             →  half the word, and a direction of its own: it is said of something else,
                                           or of another place

Directions of one kind (the colours, the digits, …) are centred: what a token denies then adds nothing. A fact is stated
`LOUD` times louder than the tower learned it, so that a token is about as long as a word.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from corelib.tasks.shapes import COLOURS
from corelib.training.tower_supervision import FACTS, directions

LOUD = 2.4


def _kind_and_word(fact: str) -> tuple[str, str, bool]:
    """A fact's kind, the word it is about, and whether it may be said in that word alone.

    >>> _kind_and_word("on red"), _kind_and_word("left star"), _kind_and_word("digit 1: 7")
    (('on colour', ' red', True), ('left shape', ' star', False), ('digit 1', '7', False))
    """
    about, rest = fact.split(" ", 1)
    if about == "field":
        return about, f" {rest}", True
    if about == "digit":
        place, digit = rest.split(": ")
        return f"digit {place}", digit, place == "0"
    return f"{about} {'colour' if rest in COLOURS else 'shape'}", f" {rest}", about == "on"


def _centred(vectors: Float[Tensor, "fact width"]) -> Float[Tensor, "fact width"]:
    less = vectors - vectors.mean(0)
    return less.div(less.norm(dim=1, keepdim=True))


def wording(embed: Callable[[str], Float[Tensor, " width"]]) -> Float[Tensor, "fact width"]:
    """The direction in which each fact is said; `embed` gives a word's embedding."""
    known = [_kind_and_word(fact) for fact in FACTS]
    kinds: dict[str, list[int]] = {}
    for place, (kind, *_) in enumerate(known):
        kinds.setdefault(kind, []).append(place)
    words = torch.stack([embed(word) for _, word, _ in known])
    said, random = torch.zeros_like(words), torch.Generator().manual_seed(1)
    for places in kinds.values():
        word = _centred(words[places])
        own = _centred(torch.randn(word.shape, generator=random))
        said[places] = _centred(word if known[places[0]][2] else 0.5 * word + own)
    return said


def translation(embed: Callable[[str], Float[Tensor, " width"]]) -> Float[Tensor, "width width"]:
    """The map that takes a token as the tower states it to the same token in words: `LOUD` · Σ word ⊗ direction."""
    said = wording(embed)
    return LOUD * said.T @ directions(said.shape[1])
