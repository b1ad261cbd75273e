"""Division of labour: do some heads differ from the other heads of their own layers?

For a number v of every head, and a set S, each head of S is compared with those of its layer that are not in S:

    difference(S) = mean_{h ∈ S} ( v_h − mean_{h' in the layer of h, h' ∉ S} v_h' )

Heads of one layer resemble each other, so a difference from all heads would say where S lies, and not what it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from corelib.analysis.kv_controls import kv_matched
from corelib.analysis.stats import bootstrap_interval, estimate, p_value
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.core.values import Estimate


@dataclass(frozen=True)
class Division:
    """How far a set of heads lies from the other heads of its layers."""

    difference: Estimate
    p: float  # how often a matched set lies as far below the others of its layers
    sets: int  # matched by layer and key/value group; all of them, if they are fewer than were asked for


def difference_from_layer(
    values: Float[np.ndarray, "sample layer head"], heads: HeadSet
) -> Float[np.ndarray, " sample"]:
    """The difference of a set from the other heads of its layers, of each sample, in float64.

    Raises:
        BadInput: the set is empty, has a head that is not there, or leaves no other head in one of its layers.

    >>> difference_from_layer(np.array([[[1.0, 2.0, 4.0]]]), HeadSet("L0H0"))
    array([-2.])
    """
    values = np.asarray(values, dtype=np.float64)
    _, layers, count = values.shape
    if not heads:
        raise BadInput("no head is compared: give at least one")
    parts = []
    for layer, mine in heads.check(layers, count).by_layer().items():
        others = [head for head in range(count) if head not in mine]
        if not others:
            raise BadInput(f"all heads of layer {layer} are in the set: there is no other one to compare with")
        parts += [values[:, layer, head] - values[:, layer, others].mean(1) for head in mine]
    difference: np.ndarray = np.mean(parts, axis=0)
    return difference


def division(
    values: Float[np.ndarray, "sample layer head"],
    heads: HeadSet,
    kv_heads: int,
    *,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Division:
    """Do these heads lie below the others of their layers, and further than matched sets do?

    Args:
        values: of every sample and head, such as `answer/mean/entropy_elsewhere`; samples are independent.
        heads: a set that was chosen by something else.
        kv_heads: key/value heads of a layer, for the matched sets (`kv_matched`).

    Raises:
        BadInput: as `difference_from_layer`, `kv_matched` and `bootstrap_interval`.
        NoControl: as `kv_matched`.

    >>> found = division(np.random.default_rng(0).random((8, 1, 4)) + np.array([0, 5, 5, 5]), HeadSet("L0H0"), 4)
    >>> found.sets, found.p, found.difference.high < 0
    (3, 0.25, True)
    """
    values = np.asarray(values, dtype=np.float64)
    _, layers, count = values.shape
    mine = difference_from_layer(values, heads)
    matched = kv_matched(heads, layers, count, kv_heads, draws=draws, seed=seed)
    mean = values.mean(0, keepdims=True)
    null = [-float(difference_from_layer(mean, one)[0]) for one in matched]
    found = estimate(mine, partial(bootstrap_interval, level=level, seed=seed))
    return Division(found, p_value(-found.value, null), len(matched))
