"""Comparing rankings of heads: how much two agree, and how much they would by chance.

Two sets of k and m heads, drawn blindly from N, share k·m/N heads on average; the number shared is hypergeometric. For
the rankings as a whole there is Spearman's rank correlation. Both compare heads of *one* model (or of two with the same
language model): head L3H2 of another model is another head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom, spearmanr

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


def spearman(one: HeadScores, two: HeadScores) -> float:
    """Rank correlation of two scores over all heads, in [-1, 1]; ties get mean ranks."""
    a, b = (np.array(scores.scores) for scores in (one, two))
    if a.shape != b.shape:
        raise BadInput(f"scores of {a.shape[0]}×{a.shape[1]} and {b.shape[0]}×{b.shape[1]} heads cannot be compared")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise BadInput("all heads have one score: there is no ranking to compare")
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


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
