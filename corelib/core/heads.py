"""Heads and sets of heads of the language decoder."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import index as whole
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from corelib.core.errors import BadInput

ROWS = ("answer", "last", "question")  # query rows: that predict the answer; the prompt's last; all of the question


@dataclass(frozen=True, order=True)
class Head:
    """One query head of the language decoder; both numbers count from 0.

    >>> str(Head(4, 0)), Head.parse("L4H0") < Head(4, 1)
    ('L4H0', True)
    """

    layer: int
    index: int

    def __post_init__(self) -> None:
        try:  # numpy's and torch's integers are welcome
            numbers = whole(self.layer), whole(self.index)
        except TypeError:
            numbers = (-1, -1)
        if min(numbers) < 0:
            raise BadInput(f"a head is two whole numbers from 0 up, not ({self.layer!r}, {self.index!r})")
        for name, number in zip(("layer", "index"), numbers, strict=True):
            object.__setattr__(self, name, number)

    def __str__(self) -> str:
        return f"L{self.layer}H{self.index}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """The head that a text such as `L4H0` names.

        Raises: BadInput if it names none.
        """
        found = re.fullmatch(r"L(\d+)H(\d+)", text.strip())
        if not found:
            raise BadInput(f"{text!r} is not a head: write layer and head as in 'L4H0'")
        return cls(int(found[1]), int(found[2]))


SHOWN = 16  # heads that a set names one by one


@dataclass(frozen=True, repr=False)
class HeadSet:
    """A set of heads, in (layer, head) order; built from heads, `"L4H0"` strings or (layer, head) pairs.

    >>> core = HeadSet(["L4H0", (2, 6), Head(4, 3)])
    >>> core.by_layer(), str(core - HeadSet(["L2H6"]))
    ({2: (6,), 4: (0, 3)}, 'L4H0 L4H3')
    """

    heads: tuple[Head, ...] = ()

    def __init__(self, heads: Iterable[Head | str | tuple[int, int]] = ()) -> None:
        if isinstance(heads, str):
            heads = heads.split()
        if not isinstance(heads, Iterable):
            raise BadInput(f"{heads!r:.60} is no set of heads: give 'L4H0 L2H6', or a list of heads")
        object.__setattr__(self, "heads", tuple(sorted({as_head(head) for head in heads})))

    @classmethod
    def all(cls, layers: int, heads: int) -> HeadSet:
        """Every head of a model with so many layers of so many heads."""
        return cls((layer, head) for layer in range(layers) for head in range(heads))

    def by_layer(self) -> dict[int, tuple[int, ...]]:
        """Head indices of every layer that has some."""
        layers = dict.fromkeys(head.layer for head in self.heads)
        return {layer: tuple(head.index for head in self.heads if head.layer == layer) for layer in layers}

    def check(self, layers: int, heads: int) -> HeadSet:
        """Itself, if all of it exists in a model of this size.

        Raises: BadInput if a head does not.
        """
        outside = [str(head) for head in self.heads if head.layer >= layers or head.index >= heads]
        if outside:
            raise BadInput(f"{', '.join(outside)}: the model has layers 0–{layers - 1} with heads 0–{heads - 1}")
        return self

    def to_json(self) -> list[str]:
        """The names of its heads, in order."""
        return [str(head) for head in self.heads]

    def __iter__(self) -> Iterator[Head]:
        return iter(self.heads)

    def __len__(self) -> int:
        return len(self.heads)

    def __contains__(self, head: object) -> bool:
        return (as_head(head) if isinstance(head, str | tuple) else head) in self.heads

    def __or__(self, other: HeadSet) -> HeadSet:
        return HeadSet((*self.heads, *other.heads))

    def __and__(self, other: HeadSet) -> HeadSet:
        return HeadSet(set(self.heads) & set(other.heads))

    def __sub__(self, other: HeadSet) -> HeadSet:
        return HeadSet(set(self.heads) - set(other.heads))

    def __le__(self, other: HeadSet) -> bool:
        return set(self.heads) <= set(other.heads)

    def __str__(self) -> str:
        return " ".join(self.to_json())

    def __repr__(self) -> str:
        names = self.to_json()
        if len(names) <= SHOWN:
            return f"HeadSet({str(self)!r})"
        return f"HeadSet({len(names)} heads: {names[0]} {names[1]} … {names[-1]})"

    def _repr_html_(self) -> str:
        from corelib.core.html import card, rows

        layers = [
            (f"layer {layer}", "  ".join(f"H{head}" for head in heads)) for layer, heads in self.by_layer().items()
        ]
        return card(f"{len(self)} heads", rows(layers))


def as_head(value: Head | str | tuple[int, int]) -> Head:
    """A head from itself, its name, or its (layer, index).

    Raises: BadInput if it is none of them.

    >>> as_head((4, 0)) == as_head("L4H0")
    True
    """
    if isinstance(value, Head):
        return value
    if isinstance(value, str):
        return Head.parse(value)
    if isinstance(value, tuple | list) and len(value) == 2:
        return Head(*value)
    raise BadInput(f"{value!r} is not a head: give Head(4, 0), 'L4H0' or (4, 0)")


def top_count(fraction: float, heads: int) -> int:
    """How many heads the top `fraction` of `heads` are: `ceil(fraction · heads)`.

    Raises: BadInput if the fraction is not in (0, 1].

    >>> top_count(0.05, 48), top_count(0.05, 270), top_count(0.07, 100)
    (3, 14, 7)
    """
    if not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise BadInput(f"fraction is {fraction!r}: give a share in (0, 1], such as 0.05")
    return math.ceil(round(fraction * heads, 9))  # 0.07 · 100 is not 7 in binary


Heads = Annotated[HeadSet, PlainValidator(HeadSet), PlainSerializer(HeadSet.to_json)]  # as a field of a result
