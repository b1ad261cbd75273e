"""Where in the model a score lies: layer by layer, and as one depth."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet


def layer_means(scores: HeadScores) -> np.ndarray:
    """The mean score of each layer's heads, [layer].

    >>> layer_means([[1.0, 3.0], [0.0, 0.0]])
    array([2., 0.])
    """
    means: np.ndarray = np.array(scores, dtype=np.float64).mean(1)
    return means


def mean_depth(scores: HeadScores | object) -> float:
    """How deep in the model a score lies: the mean layer, each layer weighted by the sum of its heads' scores; 0 is the
    first layer, 1 the last: Σ_l l / (L − 1) Σ_h s_lh / Σ s. Our definition.

    Raises:
        BadInput: there is one layer, or scores are not finite, negative, or all zero.

    >>> mean_depth([[1.0, 0.0], [0.0, 0.0], [2.0, 1.0]])
    0.75
    """
    table = np.array(scores, dtype=np.float64)
    layers = table.sum(1) if table.ndim == 2 else np.empty(0)
    if len(layers) < 2 or not (table >= 0).all() or not np.isfinite(layers).all() or layers.sum() <= 0:
        raise BadInput("a mean depth needs two layers or more, and scores that are finite, not negative, not all zero")
    return float(np.linspace(0, 1, len(layers)) @ layers / layers.sum())


def median_depth(heads: HeadSet, layers: int) -> float:
    """How deep in a model of so many `layers` a set of heads lies: the median of its layers, 0 the first, 1 the last.

    Raises:
        BadInput: the set is empty, the model has one layer, or has no such head.

    >>> median_depth(HeadSet("L0H1 L2H0 L4H3"), 5)
    0.5
    """
    if not heads or layers < 2 or max(head.layer for head in heads) >= layers:
        raise BadInput(f"{len(heads)} heads in {layers} layers: give a set of heads that are there, and two layers")
    return float(np.median([head.layer for head in heads]) / (layers - 1))


def group_share(scores: HeadScores | object, kv_heads: int) -> tuple[float, float]:
    """What key/value groups explain of a ranking: of the variance of ranks within layers, the share that lies between
    the groups, and the share that groups would hold by chance,

        Σ_groups n (mean rank − layer mean)² / Σ_heads (rank − layer mean)²,   (groups − 1) / (heads − 1).

    Our definition. Ranks are over all heads that count.

    Raises:
        BadInput: `kv_heads` does not divide the heads of a layer, or no layer has a ranking.

    >>> share, chance = group_share([[4.0, 4.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]], 2)
    >>> round(share, 6), round(chance, 2)
    (1.0, 0.33)
    """
    table = np.asarray(scores, dtype=np.float64)
    table = table[list(scores.layers)] if isinstance(scores, HeadScores) else table
    layers, heads = table.shape
    if kv_heads < 1 or heads % kv_heads or heads < 2:
        raise BadInput(f"{heads} heads on {kv_heads} key/value heads: give a number that divides them")
    ranks = rankdata(table).reshape(layers, heads)
    ranks -= ranks.mean(1, keepdims=True)
    if not ranks.any():
        raise BadInput("all heads of a layer have one rank: there is no ranking within layers")
    groups = ranks.reshape(layers, kv_heads, -1).mean(-1)
    return float((groups**2).sum() * (heads // kv_heads) / (ranks**2).sum()), (kv_heads - 1) / (heads - 1)
