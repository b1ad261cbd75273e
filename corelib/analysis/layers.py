"""Where in the model a score lies: layer by layer, and as one depth."""

from __future__ import annotations

import numpy as np

from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores


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
