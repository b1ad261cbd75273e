"""Localization heads: those that look at the pictures a lot, and at one place in them.

For the last row of the prompt, with A the attention on the visual tokens, laid out as the pictures are,

    spatial entropy = −Σ_C P(C) log P(C),   P(C) = Σ_{k∈C} A_k / Σ A

over the 8-connected components C of A − mean(A) > 0, weighted by that excess: 0 if all lies in one patch.

A sample *selects* the heads of lowest spatial entropy among those with enough attention on the pictures; a head's score
is how often it is selected.

Source: Kang et al., arXiv 2503.06287. "Enough" is the mass at the knee of the sample's own sorted masses, or more; the
knee is the point farthest from the chord between the highest and the lowest, on whichever side, as in published code
after theirs. Our definitions: as many heads are selected as the top 5 % have (they: a fixed number); the components are
what lies above the mean (that code: above twice the mean); no layer and no head is left out beforehand (that code:
the first two layers, and heads that look at the lowest row of the picture).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.stats import entropy

from corelib.core.errors import BadInput
from corelib.core.heads import top_count

NEIGHBOURS = np.array([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))], dtype=int)  # eight, in one map


def spatial_entropy(maps: Sequence[Float[np.ndarray, "head row column"]]) -> Float[np.ndarray, " head"]:
    """The spatial entropy of every head's attention on the pictures of one sample, in nats; `inf` for a head whose map
    is flat, so that nothing lies above its mean.

    Args:
        maps: of each picture, its attention as it lies there, [head, row, column]; not negative. The mean is taken over
            all pictures together.

    Raises:
        BadInput: there is no picture.

    >>> one_patch, two_patches = [[1, 1, 0, 0]], [[1, 0, 0, 1]]
    >>> spatial_entropy([np.array([one_patch, two_patches], dtype=float)]).round(3).tolist()
    [0.0, 0.693]
    """
    if not maps:
        raise BadInput("there is no picture: spatial entropy needs at least one map")
    heads, maps = len(maps[0]), [np.asarray(one, dtype=np.float64) for one in maps]
    mean = np.concatenate([one.reshape(heads, -1) for one in maps], axis=1).mean(1)[:, None, None]
    above = [one - mean for one in maps]
    masses = [_components(np.where(one > 1e-9 * mean, one, 0)) for one in above]  # what rounding leaves is no patch
    found = np.zeros(heads)
    for head in range(heads):
        parts = np.concatenate([mass[head] for mass in masses])
        found[head] = entropy(parts) if len(parts) else np.inf  # flat: nowhere in particular
    return found


def _components(excess: Float[np.ndarray, "head row column"]) -> list[Float[np.ndarray, " component"]]:
    """The mass of every connected component of each head's map."""
    labels, count = ndimage.label(excess > 0, structure=NEIGHBOURS)
    sums = np.bincount(labels.ravel(), weights=excess.ravel(), minlength=count + 1)
    return [sums[np.unique(one[one > 0])] for one in labels]


def knee(values: Float[np.ndarray, " value"]) -> float:
    """The value at the knee of a falling curve: the point farthest from the chord between its ends, above or below it.

    Below the chord it is the foot of a cliff, above it the edge. Of points equally far, the lowest; so a straight or
    flat curve, and one of two values, has its knee at its lowest value: all of it is at the knee or above.

    Args:
        values: finite numbers in any order.

    Raises:
        BadInput: there is no value, or one is not finite.

    >>> knee(np.array([9.0, 8.0, 1.0, 0.5, 0.0])), knee(np.array([9.0, 8.5, 8.0, 1.0, 0.0]))
    (1.0, 8.0)
    """
    rising = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if not rising.size or not np.isfinite(rising).all():
        raise BadInput(f"{rising.size} values: a knee needs one or more, all finite")
    away = np.abs(rising - np.linspace(rising[0], rising[-1], len(rising)))
    return float(rising[np.argmax(away >= away.max() - 1e-9 * (rising[-1] - rising[0]))])


def selected(
    mass: Float[np.ndarray, "sample layer head"],
    spread: Float[np.ndarray, "sample layer head"],
    fraction: float = 0.05,
) -> Bool[np.ndarray, "sample layer head"]:
    """Which heads each sample selects: among those whose visual `mass` reaches the knee, the ones of lowest spatial
    entropy (`spread`), as many as the top `fraction` of all heads, or fewer where fewer have enough mass and a map that
    is not flat. Ties go to the lower (layer, head).

    Raises:
        BadInput: the tables differ in shape, a mass is not finite, or `fraction` is not in (0, 1].

    >>> mass, spread = np.array([[[0.9, 0.8, 0.7, 0.0]]]), np.array([[[0.5, 0.3, 0.9, 0.0]]])
    >>> selected(mass, spread, 0.25).tolist()
    [[[False, True, False, False]]]
    """
    if mass.shape != spread.shape or mass.ndim != 3:
        raise BadInput(f"mass is {mass.shape}, spread is {spread.shape}: both must be [sample, layer, head]")
    flat, wide = (table.reshape(len(table), -1) for table in (mass, spread))
    count, chosen = top_count(fraction, flat.shape[1]), np.zeros(flat.shape, dtype=bool)
    for sample, (masses, entropies) in enumerate(zip(flat, wide, strict=True)):
        able = np.flatnonzero((masses >= knee(masses)) & np.isfinite(entropies))
        chosen[sample, able[np.argsort(entropies[able], kind="stable")[:count]]] = True
    return chosen.reshape(mass.shape)
