"""Comparing rankings of heads: how much two agree, and how much they would by chance.

Two sets of k and m heads, drawn blindly from N, share k·m/N heads on average; the number shared is hypergeometric. For
the rankings as a whole there is Spearman's rank correlation. Both compare heads of *one* model (or of two with the same
language model): head L3H2 of another model is another head.

Heads of one layer resemble each other. Two sets that lie in the same layers share more heads than blind draws would,
even if nothing but the layer mattered. So each measure also comes *within layers*: the draws keep how many heads each
set has in each layer, and the correlation compares every head with its own layer only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy.stats import hypergeom, pearsonr, rankdata, spearmanr

from corelib.errors import BadInput
from corelib.heads import HeadScores, HeadSet


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
    """The overlap of two sets out of `heads` heads, with its chance level."""
    if not one or not two or len(one | two) > heads:
        raise BadInput(f"sets of {len(one)} and {len(two)} heads out of {heads}: give two that are not empty and fit")
    shared = one & two
    chance = hypergeom.sf(len(shared) - 1, heads, len(one), len(two))
    return Overlap(shared, len(shared) / len(one | two), len(one) * len(two) / heads, float(chance))


def overlap_within_layers(one: HeadSet, two: HeadSet, layers: int, heads: int) -> Overlap:
    """The overlap of two sets in a model of `layers` × `heads` heads. The chance level is that of draws which keep how
    many heads each set has in each layer: the number shared is a sum of one hypergeometric number a layer.

    >>> str(overlap_within_layers(HeadSet("L0H0 L0H1"), HeadSet("L0H1 L1H0"), 2, 4))
    '1 shared, 0.5 by chance'
    """
    blind = overlap(one.check(layers, heads), two.check(layers, heads), layers * heads)
    mine, other = one.by_layer(), two.by_layer()
    counts = [(len(mine[layer]), len(other[layer])) for layer in mine.keys() & other.keys()]
    likely = reduce(np.convolve, (hypergeom.pmf(np.arange(heads + 1), heads, *pair) for pair in counts), np.ones(1))
    chance = min(1.0, float(likely[len(blind.shared) :].sum()))
    return Overlap(blind.shared, blind.jaccard, sum(k * m for k, m in counts) / heads, chance)


def spearman(one: HeadScores, two: HeadScores) -> float:
    """Rank correlation of two scores over all heads, in [-1, 1]; ties get mean ranks."""
    a, b = _tables(one, two)
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def spearman_within_layers(one: HeadScores, two: HeadScores) -> float:
    """Rank correlation of two scores, each head's rank less the mean rank of its layer: what is left of the agreement
    once it is known which layers score high."""
    ranks = (rankdata(table).reshape(table.shape) for table in _tables(one, two))
    a, b = (each - each.mean(1, keepdims=True) for each in ranks)
    if not a.any() or not b.any():
        raise BadInput("all heads of a layer have one rank: there is no ranking within layers to compare")
    return float(pearsonr(a.ravel(), b.ravel()).statistic)


def _tables(one: HeadScores, two: HeadScores) -> tuple[np.ndarray, np.ndarray]:
    """Both scores, [layer, head], if they can be compared."""
    a, b = (np.array(scores.scores) for scores in (one, two))
    if a.shape != b.shape:
        raise BadInput(f"scores of {a.shape[0]}×{a.shape[1]} and {b.shape[0]}×{b.shape[1]} heads cannot be compared")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise BadInput("all heads have one score: there is no ranking to compare")
    return a, b


def share(scores: HeadScores, heads: HeadSet) -> float:
    """Of the sum of all heads' scores, the share that `heads` hold."""
    table = np.array(scores.scores)
    if table.min() < 0 or table.sum() <= 0:
        raise BadInput("a share needs scores that are not negative, and not all zero")
    heads.check(*table.shape)
    return float(sum(table[head.layer, head.index] for head in heads) / table.sum())


def by_layer(scores: HeadScores) -> np.ndarray:
    """The mean score of each layer's heads, [layer]."""
    return np.array(scores.scores).mean(1)
