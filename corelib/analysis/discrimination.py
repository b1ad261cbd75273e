"""Does a number tell right from wrong?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from corelib.analysis.stats import check_level
from corelib.core.errors import BadInput
from corelib.core.values import Estimate

FEWEST = 20  # samples of each kind, below which nothing is said


def auroc(values: Float[np.ndarray, " sample"], right: Bool[np.ndarray, " sample"]) -> float:
    """The chance that a right sample has a higher value than a wrong one, ties counted as half: the area under the
    receiver operating characteristic; 0.5 says nothing.

        AUROC = (Σ_{right} rank − n₁ (n₁ + 1) / 2) / (n₁ n₀)

    Raises: BadInput if the two differ in length, a value is not finite, or all samples are of one kind.

    Source: Hanley & McNeil (1982); the sum of ranks is that of Mann & Whitney.

    >>> auroc(np.array([0.9, 0.8, 0.3, 0.4]), np.array([True, True, False, True]))
    1.0
    """
    values, right = np.asarray(values, dtype=float), np.asarray(right, dtype=bool)
    if values.shape != right.shape or values.ndim != 1 or not np.isfinite(values).all():
        raise BadInput(f"values {values.shape} and right {right.shape}: give one finite value a sample")
    ones = int(right.sum())
    zeros = len(right) - ones
    if not ones or not zeros:
        raise BadInput("all samples are of one kind: there is nothing to tell apart")
    return float((rankdata(values)[right].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def auroc_estimate(
    values: Float[np.ndarray, " sample"],
    right: Bool[np.ndarray, " sample"],
    clusters: Sequence[int] | None = None,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """The same with its bootstrap interval, clusters drawn anew; None if there are fewer than 20 samples of one kind,
    of which nothing can be said.

    Raises: BadInput as `auroc`, or if `level` or `draws` is out of range.

    >>> auroc_estimate(np.array([0.9, 0.8]), np.array([True, False])) is None
    True
    """
    check_level(level)
    if draws < 1:
        raise BadInput(f"draws={draws}: an interval needs one draw or more")
    right = np.asarray(right, dtype=bool)
    if min(right.sum(), (~right).sum()) < FEWEST:
        return None
    names = np.arange(len(right)) if clusters is None else np.asarray(clusters)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    rng = np.random.default_rng(seed)
    found: list[float] = []
    while len(found) < draws:
        chosen = np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])
        if 0 < right[chosen].sum() < len(chosen):
            found.append(auroc(values[chosen], right[chosen]))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(auroc(values, right), float(low), float(high))
