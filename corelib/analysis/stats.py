"""Intervals: how far a number could move if other pictures had been drawn."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binomtest

from corelib.core.errors import BadInput
from corelib.core.values import Estimate

ROUNDING, NEAR_ZERO = 1e-9, 1e-12  # effects that differ by no more are equal
COLUMNS = 512  # are resampled at once: a large model's heads on many samples fill the memory otherwise


def bootstrap_interval(
    values: Float[np.ndarray, "sample ..."],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    statistic: Callable[[np.ndarray], object] | None = None,
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Percentile bootstrap of the mean over samples, resampling whole clusters (default: every sample its own).

    With a `statistic`, the interval of `statistic(mean)`, such as the Gini coefficient of all heads' means.

    Questions about one picture stand or fall together, so pictures are drawn, not questions: with cluster sums S and
    sizes n, and multinomial counts w of a draw, the mean is `Σ w S / Σ w n`. One matrix product does all draws and
    all heads at once, in float64 whatever the values are.

    Args:
        values: [sample, …], finite.
        clusters: [sample], the name of each sample's cluster.
        level: confidence, in (0, 1).
        draws: resamples.
        seed: of the draws; the same seed draws the same clusters.
        statistic: of a mean, [...] → a number or an array.

    Returns:
        The low and the high end, [...] each, or of the statistic's shape.

    Raises:
        BadInput: names and samples differ in number, a value is not finite, there are fewer than two clusters, or
            `level` or `draws` is out of range.

    Source: Efron & Tibshirani (1993), ch. 13; Field & Welsh (2007) for clusters.

    >>> low, high = bootstrap_interval(np.array([[0.0], [1.0], [0.0], [1.0]]), draws=200)
    >>> bool(0 <= low[0] < 0.5 < high[0] <= 1)
    True
    """
    values = np.asarray(values)
    names = range(len(values)) if clusters is None else list(clusters)
    if len(names) != len(values):
        raise BadInput(f"{len(values)} samples, but {len(names)} cluster names: give one a sample")
    if not np.isfinite(values).all():
        raise BadInput("a value is not finite: leave that sample out before asking for an interval")
    check_level(level)
    if draws < 1:
        raise BadInput(f"draws={draws}: an interval needs one draw or more")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    count = len(numbers)
    if count < 2:
        raise BadInput(f"{count} cluster: an interval needs at least two")
    member = np.array([numbers[name] for name in names])
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)  # [draw, cluster]
    weights = weights.astype(np.float64)
    sizes = (weights @ np.bincount(member, minlength=count))[:, None]
    flat, parts = values.reshape(len(values), -1), []
    for start in range(0, flat.shape[1], COLUMNS):
        part = flat[:, start : start + COLUMNS]
        sums = np.zeros((count, part.shape[1]))
        np.add.at(sums, member, part)
        parts.append(weights @ sums / sizes)
    means = np.concatenate(parts, axis=1).reshape(draws, *values.shape[1:])
    tail = (1 - level) / 2
    drawn = means if statistic is None else np.array([statistic(mean) for mean in means])
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return low, high


def estimate(
    values: Float[np.ndarray, " sample"],
    interval: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] = bootstrap_interval,
) -> Estimate:
    """The mean over samples with its interval: by default `bootstrap_interval` of independent samples.

    Raises:
        BadInput: as `bootstrap_interval`.

    >>> found = estimate(np.array([0.0, 1.0, 0.0, 1.0]))
    >>> found.value, found.low <= found.value <= found.high
    (0.5, True)
    """
    low, high = interval(values)
    return Estimate(float(values.mean()), float(low), float(high))


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion: sound for small samples, and near 0 and 1. Its ends are the p at which
    |successes / n − p| = z √(p (1 − p) / n), with z the normal quantile of `level`.

    Raises:
        BadInput: `successes` or `n` is not a whole number, they do not fit, or `level` is out of range.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".

    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    if not 0 <= successes <= n or n < 1 or successes % 1 or n % 1:
        raise BadInput(f"{successes} of {n}: give whole numbers, 0 <= successes <= n and n >= 1")
    check_level(level)
    interval = binomtest(int(successes), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def p_value(effect: float, null: Sequence[float] | Float[np.ndarray, " draw"]) -> float:
    """How often a control does at least as much, in (0, 1], never 0:

        p = (1 + #{null ≥ effect}) / (1 + draws)

    Real numbers that differ by rounding alone count as equal: a mean of differences is not, to the last bit, the
    difference of the means. "Rounding" is a billionth of the number, or 10⁻¹² near 0 (effects are shares or nats).
    What can be counted is compared by `p_value_of_counts`.

    Args:
        effect: of the tested set; larger does more.
        null: [draw], the effect of each control.

    Raises:
        BadInput: there is no draw, or a number is not finite.

    Source: Phipson & Smyth (2010), "Permutation p-values should never be zero".

    >>> p_value(0.4, [0.0, 0.1, 0.5])
    0.5
    >>> p_value(0.3, [0.1 + 0.2, 0.3, 0.9 - 0.6])
    1.0
    """
    draws = np.asarray(null, dtype=np.float64)
    if not draws.size:
        raise BadInput("a null distribution of no draws: give at least one")
    if not np.isfinite(draws).all() or not np.isfinite(effect):
        raise BadInput("an effect is not finite: leave that condition out before comparing")
    as_much = (draws >= effect) | np.isclose(draws, effect, rtol=ROUNDING, atol=NEAR_ZERO)
    return float((1 + as_much.sum()) / (1 + draws.size))


def p_value_of_counts(right: int, null: Sequence[int] | Int[np.ndarray, " draw"]) -> float:
    """`p_value` of a loss of accuracy, from how many samples are answered rightly: exact, ties included.

        p = (1 + #{right answers of a control ≤ those of the tested set}) / (1 + draws)

    All conditions run on the same samples, so fewer right answers are a larger loss.

    Args:
        right: samples that are answered rightly without the tested set.
        null: [draw], the same without each control.

    Raises:
        BadInput: there is no draw, or a number is not a whole one from 0 up.

    >>> p_value_of_counts(56, [56, 57, 60])
    0.5
    """
    counts = np.asarray([right, *null])
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise BadInput("right answers are counted: give whole numbers from 0 up")
    if len(counts) < 2:
        raise BadInput("a null distribution of no draws: give at least one")
    return float((1 + (counts[1:] <= counts[0]).sum()) / len(counts))


def check_level(level: float) -> None:
    """Refuse a confidence that is not in (0, 1), with `BadInput`."""
    if not 0 < level < 1:
        raise BadInput(f"level is {level}: give a confidence between 0 and 1, such as 0.95")


def holm(ps: Sequence[float] | Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """p-values of several tests that are read together, corrected so that the chance of even one false "yes" stays
    below α: the k-th smallest of n is multiplied by n − k + 1, and none falls below a smaller one's.

    Raises:
        BadInput: there is no p, or one is not in [0, 1].

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(ps, dtype=np.float64)
    if not values.size or not ((values >= 0) & (values <= 1)).all():
        raise BadInput(f"p-values lie in [0, 1], one or more of them; got {list(ps)}")
    order = values.argsort(kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = steps.clip(max=1)
    return corrected
