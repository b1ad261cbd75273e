"""How many heads two sets share, and how many draws would share by chance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

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
    chance = hypergeom.sf(len(shared) - 1, heads, len(one), len(two))
    return Overlap(shared, len(shared) / len(one | two), len(one) * len(two) / heads, float(chance))


def overlap_within_layers(one: HeadSet, two: HeadSet, layers: int, heads: int) -> Overlap:
    """The overlap of two sets in a model of `layers` × `heads` heads. The chance level is that of draws which keep how
    many heads each set has in each layer: the number shared is a sum of one hypergeometric number a layer.

    Raises:
        BadInput: a set is empty, or holds a head that the model does not have.

    >>> str(overlap_within_layers(HeadSet("L0H0 L0H1"), HeadSet("L0H1 L1H0"), 2, 4))
    '1 shared, 0.5 by chance'
    """
    blind = overlap(one.check(layers, heads), two.check(layers, heads), layers * heads)
    mine, other = one.by_layer(), two.by_layer()
    counts = [(len(mine[layer]), len(other[layer])) for layer in mine.keys() & other.keys()]
    likely = reduce(np.convolve, (hypergeom.pmf(np.arange(heads + 1), heads, *pair) for pair in counts), np.ones(1))
    chance = min(1.0, float(likely[len(blind.shared) :].sum()))
    return Overlap(blind.shared, blind.jaccard, sum(k * m for k, m in counts) / heads, chance)
