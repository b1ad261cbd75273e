"""How unevenly a score is spread over the heads: do few heads hold most of it?

For scores s₁ ≤ … ≤ s_n that are not negative,

    lorenz(x)            the share of the sum that the lowest x · n heads hold; a straight line if all are alike
    gini                 twice the area between that curve and the line: 0 if all are alike, 1 − 1/n if one has all
    participation_ratio  (Σ s)² / (n Σ s²): the share of heads that would hold the sum if they held it equally
    share                of the sum, what a given set of heads holds
    top_share            of the sum, what the highest heads hold
    half_share           ρ½, the share of heads that hold half of the sum, the highest first

Sources: Lorenz (1905), Gini (1912); the participation ratio is the inverse of Herfindahl's index, over n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.integrate import trapezoid

from corelib.analysis.stats import ROUNDING
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet, top_count


def lorenz(scores: HeadScores | object) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """The Lorenz curve, from (0, 0) to (1, 1): the share of heads, lowest first, and the share of the sum they hold.

    Args:
        scores: head scores, or a table [layer][head].

    Raises:
        BadInput: not a table, or scores are not finite, negative, or all zero.

    >>> share_of_heads, share_of_sum = lorenz([[1.0, 0.0], [0.0, 3.0]])
    >>> share_of_sum.tolist()
    [0.0, 0.0, 0.0, 0.25, 1.0]
    """
    values = np.sort(_values(scores))
    held = np.concatenate([[0.0], np.cumsum(values)]) / values.sum()
    return np.linspace(0, 1, len(held)), held


def gini(scores: HeadScores | object) -> float:
    """Gini's coefficient, in [0, 1): the mean difference of two heads' scores over twice the mean score.

    Raises:
        BadInput: as `lorenz`.

    >>> gini([[1.0, 1.0], [1.0, 1.0]]), gini([[0.0, 0.0], [0.0, 1.0]])
    (0.0, 0.75)
    """
    heads, held = lorenz(scores)
    return float(1 - 2 * trapezoid(held, heads))


def participation_ratio(scores: HeadScores | object) -> float:
    """The share of heads that would do if all of them did alike, in (0, 1]: (Σ s)² / (n Σ s²).

    Raises:
        BadInput: as `lorenz`.

    >>> participation_ratio([[1.0, 1.0], [0.0, 0.0]])
    0.5
    """
    values = _values(scores)
    values = values / values.max()  # squares of very small or large numbers are 0 or infinite
    return float(values.sum() ** 2 / (len(values) * (values**2).sum()))


def share_held(scores: HeadScores | object, heads: HeadSet) -> float:
    """Of the sum of all heads' scores, the share that `heads` hold, in [0, 1].

    Raises:
        BadInput: as `lorenz`; or a head is not in the table.

    >>> share_held([[1.0, 1.0], [1.0, 5.0]], HeadSet("L1H1"))
    0.625
    """
    values, table = _values(scores), _table(scores)
    heads.check(*table.shape)
    return float(sum(table[head.layer, head.index] for head in heads) / values.sum())


def top_share(scores: HeadScores | object, fraction: float = 0.05) -> float:
    """Of the sum of all heads' scores, the share that the highest `fraction` of the heads hold, in (0, 1].

    Raises:
        BadInput: as `lorenz`; or `fraction` is not in (0, 1].

    >>> top_share([[1.0, 1.0], [1.0, 5.0]], 0.25)
    0.625
    """
    values = np.sort(_values(scores))
    return float(values[-top_count(fraction, len(values)) :].sum() / values.sum())


def half_share(scores: HeadScores | object) -> float:
    """ρ½: the smallest share of the heads that hold half of the sum of all heads' scores, in (0, ½].

        ρ½ = min {k : Σ of the k highest s ≥ ½ Σ s} / n

    Raises:
        BadInput: as `lorenz`.

    Source: the share of heads that hold half of the mass, as MMRetHeads (arXiv:2605.27243) reports it.

    >>> half_share([[1.0, 1.0], [1.0, 5.0]]), half_share([[1.0, 1.0], [1.0, 1.0]])
    (0.25, 0.5)
    """
    held = np.cumsum(np.sort(_values(scores))[::-1])
    return float((1 + np.argmax(held >= held[-1] / 2 - ROUNDING * held[-1])) / len(held))


@dataclass(frozen=True)
class Concentration:
    """How unevenly a score is spread, in numbers."""

    gini: float
    participation_ratio: float
    top: float  # the share that the top `fraction` of heads hold

    @classmethod
    def of(cls, scores: HeadScores, fraction: float = 0.05) -> Concentration:
        return cls(gini(scores), participation_ratio(scores), top_share(scores, fraction))


def _table(scores: HeadScores | object) -> Float[np.ndarray, "layer head"]:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise BadInput(f"scores have shape {table.shape}: give a table [layer][head]")
    return table


def _values(scores: HeadScores | object) -> Float[np.ndarray, " head"]:
    """All scores that count in a row, if a share of their sum means something."""
    table = _table(scores)
    values = (table[list(scores.layers)] if isinstance(scores, HeadScores) else table).ravel()
    if not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise BadInput("a share needs scores that are finite, not negative, and not all zero")
    return values
