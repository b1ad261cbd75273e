"""How many heads two sets share, and how many draws would share by chance.

Three kinds of draws: of all heads alike; of the heads of each layer; and of each layer's key/value groups and the heads
in them. Heads of one layer resemble each other, and heads that share a key/value head do so even more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce

import numpy as np
from scipy.stats import hypergeom

from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet


@dataclass(frozen=True)
class Overlap:
    """What two sets of heads share.

    >>> overlap(HeadSet("L0H0 L0H1"), HeadSet("L0H1 L1H0"), heads=8).shared.to_json()
    ['L0H1']
    """

    shared: HeadSet
    jaccard: float  # |A ∩ B| / |A ∪ B|
    expected: float  # heads shared by chance, on average
    chance: float  # how likely chance shares at least as many
    least: float  # how likely it shares as many as it ever can: no p is smaller

    def __str__(self) -> str:
        return f"{len(self.shared)} shared, {self.expected:.1f} by chance"


def overlap(one: HeadSet, two: HeadSet, heads: int) -> Overlap:
    """The overlap of two sets out of `heads` heads, with its chance level: of k and m blind draws from N heads,

        expected = k m / N,   chance = P(at least as many shared),   hypergeometric.

    Raises:
        BadInput: a set is empty, or both together hold more than `heads` heads.

    >>> overlap(HeadSet("L0H0 L0H1"), HeadSet("L0H1 L1H0"), heads=8).expected
    0.5
    """
    if not one or not two or len(one | two) > heads:
        raise BadInput(f"sets of {len(one)} and {len(two)} heads out of {heads}: give two that are not empty and fit")
    shared = one & two
    return _judged(shared, one | two, hypergeom.pmf(np.arange(heads + 1), heads, len(one), len(two)))


def overlap_within_layers(one: HeadSet, two: HeadSet, layers: int, heads: int) -> Overlap:
    """The overlap of two sets in a model of `layers` × `heads` heads. The chance level is that of draws which keep how
    many heads each set has in each layer: the number shared is a sum of one hypergeometric number a layer.

    Raises:
        BadInput: a set is empty, or holds a head that the model does not have.

    >>> str(overlap_within_layers(HeadSet("L0H0 L0H1"), HeadSet("L0H1 L1H0"), 2, 4))
    '1 shared, 0.5 by chance'
    """
    shared, counts = _in_layers(one, two, layers, heads)
    pairs = [(sum(mine), sum(other)) for mine, other in counts]
    likely = reduce(np.convolve, (hypergeom.pmf(np.arange(heads + 1), heads, *pair) for pair in pairs), np.ones(1))
    return _judged(shared, one | two, likely)


def overlap_within_groups(one: HeadSet, two: HeadSet, layers: int, heads: int, kv_heads: int) -> Overlap:
    """The overlap of two sets in a model whose layers have `heads` query heads on `kv_heads` key/value heads. The draws
    permute the key/value groups of each layer, and the heads in each group: they keep how many groups of a layer give
    how many heads. Exact. Our definition.

    Raises:
        BadInput: as `overlap_within_layers`, or `kv_heads` does not divide `heads`.

    >>> pair = HeadSet("L0H0 L0H1")  # a whole group: draws from the layer share both in one of six cases,
    >>> overlap_within_layers(pair, pair, 1, 4).chance, overlap_within_groups(pair, pair, 1, 4, 2).chance
    (0.16666666666666666, 0.5)
    """
    if kv_heads < 1 or heads % kv_heads:
        raise BadInput(f"{heads} heads on {kv_heads} key/value heads: give a number that divides them")
    size = heads // kv_heads
    shared, counts = _in_layers(one, two, layers, heads, size)
    parts = (_shared_in_groups(tuple(mine), tuple(sorted(other)), size) for mine, other in counts)
    return _judged(shared, one | two, reduce(np.convolve, parts, np.ones(1)))


def _in_layers(
    one: HeadSet, two: HeadSet, layers: int, heads: int, size: int = 1
) -> tuple[HeadSet, list[tuple[list[int], list[int]]]]:
    """The shared heads; and of each layer that both sets have heads in, how many each set takes from each group of
    `size` heads."""
    blind = overlap(one.check(layers, heads), two.check(layers, heads), layers * heads)
    mine, other = one.by_layer(), two.by_layer()

    def counted(chosen: tuple[int, ...]) -> list[int]:
        return [sum(head // size == group for head in chosen) for group in range(heads // size)]

    return blind.shared, [(counted(mine[layer]), counted(other[layer])) for layer in sorted(mine.keys() & other.keys())]


@cache
def _shared_in_groups(fixed: tuple[int, ...], left: tuple[int, ...], size: int) -> np.ndarray:
    """How likely a layer's draw shares 0, 1, … heads: group by group, each number of `left` is as likely as another."""
    if not fixed:
        return np.ones(1)
    found = np.zeros(size * len(fixed) + 1)
    for place, count in enumerate(left):
        rest = _shared_in_groups(fixed[1:], left[:place] + left[place + 1 :], size)
        here = np.convolve(hypergeom.pmf(np.arange(size + 1), size, fixed[0], count), rest)
        found[: len(here)] += here / len(left)
    return found


def _judged(shared: HeadSet, both: HeadSet, likely: np.ndarray) -> Overlap:
    """An overlap against the distribution of what draws share."""
    numbers = np.arange(len(likely))
    most = int(numbers[likely > 0].max())
    return Overlap(
        shared,
        jaccard=len(shared) / len(both),
        expected=float(likely @ numbers),
        chance=min(1.0, float(likely[len(shared) :].sum())),
        least=float(likely[most]),
    )
