"""Comparing rankings of heads: how much two agree, and how much they would by chance.

Two sets of k and m heads, drawn blindly from N, share k·m/N heads on average; the number shared is hypergeometric. For
the rankings as a whole there is Spearman's rank correlation. Both compare heads of *one* model (or of two with the same
language model): head L3H2 of another model is another head.

Heads of one layer resemble each other. Two sets that lie in the same layers share more heads than blind draws would,
even if nothing but the layer mattered. So each measure also comes *within layers*: the draws keep how many heads each
set has in each layer, and the correlation compares every head with its own layer only. Heads that share a key/value
head resemble each other even more: *within groups*, the draws also keep how many groups of a layer give how many heads.

Two rankings of many heads need not be cut anywhere: rank-biased overlap looks at the top 1, 2, 3, … in turn, and gives
the first places most weight. And a ranking is worth comparing only if it agrees with itself (`reliability.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.stats import pearsonr, rankdata, spearmanr

from corelib.analysis.overlap import Overlap, overlap, overlap_within_groups, overlap_within_layers
from corelib.analysis.stats import p_value
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.core.heads import Head
from corelib.core.html import card, rows

Table: TypeAlias = Float[np.ndarray, "layer head"]


def spearman(one: HeadScores | Table, two: HeadScores | Table) -> float:
    """Spearman's rank correlation of two scores over all heads that count, in [-1, 1]; ties get mean ranks. Of plain
    tables [layer, head], too: there all heads count.

    Raises:
        BadInput: the scores are of other numbers of heads, or all heads have one score.

    >>> from corelib import atlas
    >>> scenes = atlas.cell("mini-s", "scenes").scores()
    >>> round(spearman(scenes, scenes), 6)
    1.0
    """
    a, b = _tables(one, two)
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def spearman_within_layers(one: HeadScores, two: HeadScores) -> float:
    """Rank correlation of two scores, each head's rank less the mean rank of its layer: what is left of the agreement
    once it is known which layers score high. Our definition.

    Raises:
        BadInput: as `spearman`; or in each layer all heads have one rank.
    """
    ranks = (rankdata(table).reshape(table.shape) for table in _tables(one, two))
    a, b = (each - each.mean(1, keepdims=True) for each in ranks)
    if not a.any() or not b.any():
        raise BadInput("all heads of a layer have one rank: there is no ranking within layers to compare")
    return float(pearsonr(a.ravel(), b.ravel()).statistic)


def correlation_within_groups(
    one: HeadScores, two: HeadScores, *, draws: int = 999, seed: int = 0
) -> tuple[float, float]:
    """`spearman_within_layers`, and how often draws agree as much that permute the key/value groups of each layer, and
    the heads in each group: p = (1 + #) / (1 + draws). Our definition.

    Raises:
        BadInput: as `spearman_within_layers`; or the models have other numbers of key/value heads.
    """
    kv_heads = _kv_heads(one, two)
    found = spearman_within_layers(one, two)
    a, b = (rankdata(table).reshape(table.shape) for table in _tables(one, two))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    layers, heads = b.shape
    groups = b.reshape(layers, kv_heads, heads // kv_heads)
    rng, norm = np.random.default_rng(seed), np.sqrt((a**2).sum() * (b**2).sum())
    null = []
    for _ in range(draws):
        moved = rng.permuted(groups, axis=2)
        order = rng.permuted(np.tile(np.arange(kv_heads), (layers, 1)), axis=1)
        moved = np.take_along_axis(moved, order[..., None], axis=1)
        null.append(float((a * moved.reshape(layers, heads)).sum() / norm))
    return found, p_value(found, null)


def _kv_heads(one: HeadScores, two: HeadScores) -> int:
    if one.model.num_kv_heads != two.model.num_kv_heads:
        raise BadInput(
            f"{one.model.num_kv_heads} and {two.model.num_kv_heads} key/value heads: heads of such models do not "
            "correspond"
        )
    return one.model.num_kv_heads


@dataclass(frozen=True, repr=False)
class Agreement:
    """All of it for two rankings of the same heads."""

    spearman: float
    spearman_within_layers: float
    top: Overlap
    top_within_layers: Overlap
    top_within_groups: Overlap
    rank_biased_overlap: float

    def __repr__(self) -> str:
        return f"Agreement(spearman {self.spearman:.2f}, top heads: {self.top}, p = {self.top.chance:.2g})"

    def _repr_html_(self) -> str:
        within, groups = self.top_within_layers, self.top_within_groups
        return card(
            "agreement of two rankings",
            rows(
                [
                    ("rank correlation", f"{self.spearman:.2f}", f"within layers {self.spearman_within_layers:.2f}"),
                    ("top heads", f"{self.top}", f"p = {self.top.chance:.2g}"),
                    ("… within layers", f"{within.expected:.1f} by chance", f"p = {within.chance:.2g}"),
                    ("… and groups", f"{groups.expected:.1f} by chance", f"p = {groups.chance:.2g}"),
                    ("rank-biased overlap", f"{self.rank_biased_overlap:.2f}", ""),
                    ("shared", self.top.shared, ""),
                ]
            ),
        )


def compare_heads(one: HeadScores, two: HeadScores, fraction: float = 0.05, *, same_model: bool = True) -> Agreement:
    """How much two rankings agree, among the heads that count in both. `same_model=False` also compares two models that
    share their heads, such as a language model before and after it learned to see.

    Raises:
        BadInput: the scores are of two models (unless `same_model=False`), no head counts in both, or as `spearman`.

    >>> from corelib import atlas
    >>> scenes = atlas.cell("mini-s", "scenes").scores()
    >>> same = compare_heads(scenes, scenes)
    >>> round(same.spearman, 6), len(same.top.shared) == len(scenes.top(0.05))
    (1.0, True)
    """
    a, b = one.model, two.model
    if same_model and a.sha256 != b.sha256:
        raise BadInput(
            f"scores of {a.name} ({a.sha256[:8]}) and of {b.name} ({b.sha256[:8]}): head L3H2 of another "
            "model is another head; compare scores of one model"
        )
    one, two = one.within(two.layers), two.within(one.layers)
    tops = one.top(fraction), two.top(fraction)
    return Agreement(
        spearman(one, two),
        spearman_within_layers(one, two),
        overlap(*tops, heads=len(one.order())),
        overlap_within_layers(*tops, *one.shape),
        overlap_within_groups(*tops, *one.shape, _kv_heads(one, two)),
        rank_biased_overlap(one.order(), two.order()),
    )


def rank_biased_overlap(one: Sequence[Head], two: Sequence[Head], p: float = 0.9) -> float:
    """How much two orders of the same heads agree from the top down, in [0, 1]:

        (1 − p) Σ_d p^(d−1) · |first d of one ∩ first d of two| / d

    over all depths; the weight left beyond the last head counts as full agreement there, since by then both hold the
    same heads. With p = 0.9 the first ten places carry 86 % of the weight.

    Raises:
        BadInput: the orders are empty or not of the same heads, each once, or `p` is not in (0, 1).

    Source: Webber, Moffat & Zobel (2010), "A similarity measure for indefinite rankings".

    >>> a, b, c = Head(0, 0), Head(0, 1), Head(0, 2)
    >>> rank_biased_overlap([a, b, c], [a, b, c]), round(rank_biased_overlap([a, b, c], [b, a, c], p=0.5), 3)
    (1.0, 0.5)
    """
    if not 0 < p < 1:
        raise BadInput(f"p is {p}: give a persistence between 0 and 1, such as 0.9")
    if not one or len(set(one)) != len(one) or set(one) != set(two) or len(one) != len(two):
        raise BadInput("rank-biased overlap compares two orders of the same heads, each head once")
    place = {head: depth for depth, head in enumerate(two)}
    both = np.array([max(depth, place[head]) for depth, head in enumerate(one)])  # from which depth on a head is shared
    shared = np.cumsum(np.bincount(both, minlength=len(one)))
    depth = np.arange(1, len(one) + 1)
    return float((1 - p) * (p ** (depth - 1) * shared / depth).sum() + p ** len(one))


def _tables(one: HeadScores | Table, two: HeadScores | Table) -> tuple[np.ndarray, np.ndarray]:
    """Both scores of the heads that count in both, [layer, head], if they can be compared."""
    a, b = (np.asarray(scores) for scores in (one, two))
    if a.shape != b.shape:
        raise BadInput(f"scores of {a.shape[0]}×{a.shape[1]} and {b.shape[0]}×{b.shape[1]} heads cannot be compared")
    if isinstance(one, HeadScores) and isinstance(two, HeadScores):
        counted = list(one.within(two.layers).layers)
        a, b = a[counted], b[counted]
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise BadInput("all heads have one score: there is no ranking to compare")
    return a, b
