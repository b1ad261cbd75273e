"""Dose and response: how many heads must go before the answers do?

Remove the first heads of an order, a few, more, many; the accuracy falls from `base` towards `chance`. **D50** is the
dose, a share of all heads, at which half of that way is gone:

    accuracy(D50) = chance + (base − chance) / 2,   of a curve that is made monotone first

The curve is the isotonic (least-squares, never rising) fit of the accuracies, straight between doses. Where it stays
above the half, D50 is unreached: infinite, written "> the largest dose". Intervals resample the test samples, so that
two orders tested on the same samples can be compared by the ratio of their D50s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from corelib.analysis.stats import bootstrap_interval
from corelib.core.errors import BadInput

Interval = Callable[..., tuple[Any, Any]]  # such as `bootstrap_interval`: (values, statistic=) → low, high
DOSES = (0.01, 0.02, 0.05, 0.10, 0.20, 0.30, 0.50)  # shares of all heads


@dataclass(frozen=True)
class D50:
    """A D50, or a ratio of two, with its interval; infinite where it is not reached."""

    value: float
    low: float
    high: float
    largest: float  # the largest dose that was given

    def __str__(self) -> str:
        return f"{self._shown(self.value)} [{self._shown(self.low)}, {self._shown(self.high)}]"

    def _shown(self, dose: float) -> str:
        return f"{dose:.1%}" if math.isfinite(dose) else f"> {100 * self.largest:g}%"


def half_dose(doses: Sequence[float], accuracy: Sequence[float], base: float, chance: float) -> float:
    """D50 of one curve; `inf` if it is not reached.

    Args:
        doses: shares of all heads, rising from above 0; at dose 0 stands `base`.
        accuracy: one a dose.
        base: accuracy without ablation.
        chance: of a constant answer; below `base`.

    Raises:
        BadInput: numbers are missing or not finite, doses do not rise, or `base` is not above `chance`.

    >>> half_dose([0.1, 0.2, 0.4], [0.9, 0.5, 0.1], base=0.9, chance=0.1)
    0.2
    >>> half_dose([0.1, 0.2], [0.9, 0.7], base=0.9, chance=0.1)
    inf
    """
    place = np.array([0.0, *doses])
    if len(place) < 2 or not (np.diff(place) > 0).all() or len(accuracy) != len(doses):
        raise BadInput(f"{len(accuracy)} accuracies at doses {list(doses)}: give one a dose, doses rising from above 0")
    if not np.isfinite([base, chance, *place, *accuracy]).all():
        raise BadInput(f"accuracies {list(accuracy)} at doses {list(doses)}: all must be finite")
    if not base > chance:
        raise BadInput(
            f"accuracy {base:.3f} without ablation is not above chance, {chance:.3f}: there is no way to fall"
        )
    fit = isotonic_regression(np.array([base, *accuracy], dtype=float), increasing=False).x
    half = chance + (base - chance) / 2
    below = np.flatnonzero(fit <= half + 1e-9 * (base - chance))  # never the first: that is at `base` or above
    if not len(below):
        return math.inf
    before, after = fit[below[0] - 1], fit[below[0]]
    return float(np.interp(half, [after, before], [place[below[0]], place[below[0] - 1]]))


def d50(
    doses: Sequence[float],
    correct: Float[np.ndarray, "dose sample"],
    base: Float[np.ndarray, " sample"],
    chance: float,
    interval: Interval = bootstrap_interval,
) -> D50:
    """D50 with its interval.

    Args:
        doses: shares of all heads, rising from above 0.
        correct: [dose, sample], 0 or 1, or a share if it is a mean over draws of a control.
        base: [sample], the same without ablation.
        chance: accuracy of a constant answer.
        interval: `stats.bootstrap_interval`, or a `partial` of it with another level, or the samples' clusters.

    Raises:
        BadInput: as `half_dose`; or outcomes are not finite numbers [dose, sample].

    >>> right = np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    >>> round(d50([0.1, 0.2], right, np.ones(4), chance=0.0).value, 3)
    0.133
    """
    return _inverted(lambda dose: 1 / dose, doses, [correct], base, chance, interval)


def d50_ratio(
    doses: Sequence[float],
    one: Float[np.ndarray, "dose sample"],
    two: Float[np.ndarray, "dose sample"],
    base: Float[np.ndarray, " sample"],
    chance: float,
    interval: Interval = bootstrap_interval,
) -> D50:
    """D50 of one order over D50 of another, on the same samples: below 1 if fewer heads of the first do the harm.

    Where the other's D50 is not reached, it counts as the largest dose, so that the ratio is an upper bound; where
    the first's is not reached, the ratio is infinite. Arguments are those of `d50`, with an order more.

    Raises:
        BadInput: as `d50`.

    >>> right = np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    >>> d50_ratio([0.1, 0.2], right, right, np.ones(4), chance=0.0).value
    1.0
    """
    largest = max(doses)
    return _inverted(lambda mine, other: min(other, largest) / mine, doses, [one, two], base, chance, interval)


def _inverted(
    inverse: Callable[..., float],
    doses: Sequence[float],
    outcomes: Sequence[Float[np.ndarray, "dose sample"]],
    base: Float[np.ndarray, " sample"],
    chance: float,
    interval: Interval,
) -> D50:
    """One over `inverse(D50 of each curve)`. Intervals are taken of the inverse: there, what is not reached is 0."""
    base, curves = np.asarray(base, dtype=float), [np.asarray(curve, dtype=float) for curve in outcomes]
    for curve in curves:
        if curve.shape != (len(doses), len(base)) or not np.isfinite(curve).all():
            raise BadInput(
                f"outcomes of shape {curve.shape} for {len(doses)} doses and {len(base)} samples: give finite numbers "
                "[dose, sample]"
            )

    def of(means: Float[np.ndarray, " number"]) -> float:
        parts = np.split(means[1:], len(curves))
        return float(inverse(*(half_dose(doses, part.tolist(), float(means[0]), chance) for part in parts)))

    def drawn(means: Float[np.ndarray, " number"]) -> float:
        return of(means) if means[0] > chance else 0.0  # a draw from which there is no way to fall

    values = np.column_stack([base, *(row for curve in curves for row in curve)])  # [sample, number]
    low, high = interval(values, statistic=drawn)
    found, least, most = (float(1 / end) if end > 0 else math.inf for end in (of(values.mean(0)), high, low))
    return D50(found, least, most, largest=max(doses))
