"""Does a ranking agree with itself? Heads are ranked on two halves of the samples, or on few of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from corelib.core.errors import BadInput
from corelib.core.head_scores import ordered
from corelib.core.heads import HeadSet, top_count
from corelib.core.values import Reliability


def split_half(
    values: Float[np.ndarray, "sample layer head"], *, fraction: float = 0.05, splits: int = 50, seed: int = 0
) -> Reliability:
    """The reliability of a ranking by the mean over samples: halve the samples at random, rank twice, compare.

    Args:
        values: [sample, layer, head], finite, four samples or more; means are taken in float64.
        fraction: of the heads, for the overlap of the halves' top sets; ties go to the lower (layer, head).
        splits: how often samples are halved.
        seed: of the halving.

    Raises:
        BadInput: shape, number or value of the samples is not as said, or all heads of a half have one score.

    >>> split_half(np.random.default_rng(0).random((8, 1, 1)) + np.arange(6.0).reshape(1, 2, 3)).halves
    1.0
    """
    values = np.asarray(values)
    if values.ndim != 3 or len(values) < 4:
        raise BadInput(f"values have shape {values.shape}: give [sample, layer, head] with at least 4 samples")
    if splits < 1 or not np.isfinite(values).all():
        raise BadInput(f"splits={splits}: give one or more, and values that are all finite")
    flat, rng = values.reshape(len(values), -1), np.random.default_rng(seed)
    count = top_count(fraction, flat.shape[1])
    found = []
    for _ in range(splits):
        order = rng.permutation(len(flat))
        one, two = (flat[half].mean(0, dtype=np.float64) for half in np.array_split(order, 2))
        if np.ptp(one) == 0 or np.ptp(two) == 0:
            raise BadInput("all heads have one score: there is no ranking to compare")
        tops = [set(np.argsort(-half, kind="stable")[:count].tolist()) for half in (one, two)]
        found.append((spearmanr(one, two).statistic, len(tops[0] & tops[1]) / len(tops[0] | tops[1])))
    halves, jaccard = np.mean(found, axis=0)
    whole = 2 * halves / (1 + halves) if halves > 0 else halves  # no sample size makes a ranking of nothing
    return Reliability(float(halves), float(whole), float(jaccard))


def tops_of_few(
    values: Float[np.ndarray, "sample layer head"],
    count: int,
    *,
    fraction: float = 0.05,
    draws: int = 20,
    seed: int = 0,
) -> list[HeadSet]:
    """The top sets of rankings by the mean over `count` samples alone, drawn without replacement; one set a draw.

    Raises:
        BadInput: there are not so many samples, or no draw is asked for.

    >>> values = np.stack([np.eye(2), np.eye(2)])
    >>> [str(one) for one in tops_of_few(values, 2, fraction=0.5, draws=1)]
    ['L0H0 L1H1']
    """
    if not 1 <= count <= len(values) or draws < 1:
        raise BadInput(
            f"{count} of {len(values)} samples, {draws} draws: give 1 to {len(values)}, and one draw or more"
        )
    rng, size = np.random.default_rng(seed), top_count(fraction, values[0].size)
    chosen = (rng.choice(len(values), count, replace=False) for _ in range(draws))
    return [HeadSet(ordered(values[mine].mean(0, dtype=np.float64))[:size]) for mine in chosen]


def share_found(tops: list[HeadSet], final: HeadSet) -> Float[np.ndarray, " draw"]:
    """Of the `final` set, the share that each of the others holds.

    Raises:
        BadInput: the final set is empty.

    >>> share_found([HeadSet("L0H0 L1H0")], HeadSet("L0H0 L2H0")).tolist()
    [0.5]
    """
    if not final:
        raise BadInput("the final set is empty: there is nothing to be found")
    return np.array([len(one & final) / len(final) for one in tops])
