"""Heads, sets of heads, and the file of head scores that experiments hand to each other (the head atlas format)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from operator import index as whole
from pathlib import Path

from corelib.core.errors import BadInput, BadResults
from corelib.core.results import read_fields, software, write_json

SCHEMA = "corelib/head-scores/2"
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
        found = re.fullmatch(r"L(\d+)H(\d+)", text.strip())
        if not found:
            raise BadInput(f"{text!r} is not a head: write layer and head as in 'L4H0'")
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True)
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
        object.__setattr__(self, "heads", tuple(sorted({_head(head) for head in heads})))

    @classmethod
    def all(cls, layers: int, heads: int) -> HeadSet:
        return cls((layer, head) for layer in range(layers) for head in range(heads))

    def by_layer(self) -> dict[int, tuple[int, ...]]:
        """Head indices of every layer that has some."""
        layers = dict.fromkeys(head.layer for head in self.heads)
        return {layer: tuple(head.index for head in self.heads if head.layer == layer) for layer in layers}

    def check(self, layers: int, heads: int) -> HeadSet:
        """Itself, if all of it exists in a model of this size."""
        outside = [str(head) for head in self.heads if head.layer >= layers or head.index >= heads]
        if outside:
            raise BadInput(f"{', '.join(outside)}: the model has layers 0–{layers - 1} with heads 0–{heads - 1}")
        return self

    def to_json(self) -> list[str]:
        return [str(head) for head in self.heads]

    def __iter__(self) -> Iterator[Head]:
        return iter(self.heads)

    def __len__(self) -> int:
        return len(self.heads)

    def __contains__(self, head: object) -> bool:
        return (_head(head) if isinstance(head, str | tuple) else head) in self.heads

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


def _head(value: Head | str | tuple[int, int]) -> Head:
    if isinstance(value, Head):
        return value
    if isinstance(value, str):
        return Head.parse(value)
    if isinstance(value, tuple | list) and len(value) == 2:
        return Head(*value)
    raise BadInput(f"{value!r} is not a head: give Head(4, 0), 'L4H0' or (4, 0)")


def top_count(fraction: float, heads: int) -> int:
    """How many heads the top `fraction` of `heads` are: `ceil(fraction · heads)`.

    >>> top_count(0.05, 48), top_count(0.05, 270), top_count(0.07, 100)
    (3, 14, 7)
    """
    if not 0 < fraction <= 1:
        raise BadInput(f"fraction is {fraction}: give a share in (0, 1], such as 0.05")
    return math.ceil(round(fraction * heads, 9))  # 0.07 · 100 is not 7 in binary


Table = tuple[tuple[float, ...], ...]  # [layer][head]

KEYS = {
    "model": {"name", "sha256", "layers", "heads", "kv_heads"},
    "task": {"domain", "split", "seed", "samples", "accuracy"},
    "metric": {"quantity", "rows", "reduce"},
    "interval": {"level", "low", "high"},
}
MORE = {  # keys that may be missing
    "task": {"difficulty", "sha256", "source", "most", "revision"},
    "model": {"dtype"},
}


@dataclass(frozen=True)
class HeadScores:
    """Scores of all heads of one model on one task, with where they come from. `None` is "not known"."""

    model: dict  # name, sha256 of the weights, layers, heads, kv_heads
    task: dict  # domain, difficulty if not the default, split, seed, samples, accuracy
    metric: dict  # quantity, rows, reduce
    scores: Table
    interval: dict  # level, low, high (both [layer][head])
    chance: float | None = None
    reliability: dict | None = None  # halves, whole, jaccard: see `ranking.split_half`
    software: dict = field(default_factory=software)
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, keys in KEYS.items():
            given = getattr(self, name)
            if not isinstance(given, dict) or given.keys() - MORE.get(name, set()) != keys:
                raise BadResults(f"head scores: {name} must have exactly the keys {', '.join(sorted(keys))}")
        object.__setattr__(self, "scores", self._table("scores", self.scores))
        bounds = {name: self._table(name, self.interval[name]) for name in ("low", "high")}
        object.__setattr__(self, "interval", {**self.interval, **bounds})
        if any(low > high for pair in zip(*bounds.values(), strict=True) for low, high in zip(*pair, strict=True)):
            raise BadResults("head scores: an interval's low end lies above its high end")

    def _table(self, name: str, table: object) -> Table:
        layers, heads = self.model["layers"], self.model["heads"]
        try:
            rows = tuple(tuple(float(value) for value in row) for row in table)
        except (TypeError, ValueError) as error:
            raise BadResults(f"head scores: {name} is not a table of numbers [layer][head]") from error
        if len(rows) != layers or any(len(row) != heads for row in rows):
            raise BadResults(f"head scores: {name} is not [{layers}][{heads}], the size that model gives")
        if not all(math.isfinite(value) for row in rows for value in row):
            raise BadResults(f"head scores: {name} holds a value that is not finite")
        return rows

    def order(self) -> list[Head]:
        """All heads, best first; ties go to the lower (layer, head)."""
        every = HeadSet.all(self.model["layers"], self.model["heads"])
        return sorted(every, key=lambda head: (-self.scores[head.layer][head.index], head))

    def top(self, fraction: float = 0.05) -> HeadSet:
        """The best `ceil(fraction · layers · heads)` heads."""
        order = self.order()
        return HeadSet(order[: top_count(fraction, len(order))])

    def save(self, path: str | Path) -> Path:
        return write_json(path, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def load(cls, path: str | Path) -> HeadScores:
        values = read_fields(path, SCHEMA, [entry.name for entry in fields(cls)])
        try:
            return cls(**values)
        except BadResults as error:
            raise BadResults(f"{path}: {error}") from error
