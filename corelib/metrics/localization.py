"""Localization heads: those that look at the pictures a lot, and at one place in them.

For the last row of the prompt, with A the attention on the visual tokens, laid out as the pictures are,

    spatial entropy = −Σ_C P(C) log P(C),   P(C) = Σ_{k∈C} A_k / Σ A

over the 8-connected components C of A − mean(A) > 0, weighted by that excess: 0 if all lies in one patch.

A sample *selects* the heads of lowest spatial entropy among those with enough attention on the pictures; a head's score
is how often it is selected.

Source: Kang et al., arXiv 2503.06287. Our definitions where it leaves room: "enough" is what lies above the knee of the
sample's own sorted masses (the point farthest below the chord from the highest to the lowest), and as many heads are
selected as the top 5 % have.
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
    """The spatial entropy of every head's attention on the pictures of one sample, in nats.

    >>> one_patch, two_patches = [[1, 1, 0, 0]], [[1, 0, 0, 1]]
    >>> spatial_entropy([np.array([one_patch, two_patches], dtype=float)]).round(3).tolist()
    [0.0, 0.693]
    """
    if not maps:
        raise BadInput("there is no picture: spatial entropy needs at least one map")
    heads = len(maps[0])
    mean = np.concatenate([one.reshape(heads, -1) for one in maps], axis=1).mean(1)
    masses = [_components(np.maximum(one - mean[:, None, None], 0)) for one in maps]
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
    """The value at the knee of a falling curve: where it lies farthest below the chord between its ends.

    >>> knee(np.array([9.0, 8.0, 1.0, 0.5, 0.0]))
    1.0
    """
    falling = np.sort(values)[::-1]
    chord = np.linspace(falling[0], falling[-1], len(falling))
    return float(falling[np.argmax(chord - falling)])


def selected(
    mass: Float[np.ndarray, "sample layer head"],
    spread: Float[np.ndarray, "sample layer head"],
    fraction: float = 0.05,
) -> Bool[np.ndarray, "sample layer head"]:
    """Which heads each sample selects: among those whose visual `mass` lies above the knee, the ones of lowest spatial
    entropy (`spread`), as many as the top `fraction` of all heads. Ties go to the lower (layer, head)."""
    if mass.shape != spread.shape or mass.ndim != 3:
        raise BadInput(f"mass is {mass.shape}, spread is {spread.shape}: both must be [sample, layer, head]")
    flat, wide = (table.reshape(len(table), -1) for table in (mass, spread))
    count, chosen = top_count(fraction, flat.shape[1]), np.zeros(flat.shape, dtype=bool)
    for sample, (masses, entropies) in enumerate(zip(flat, wide, strict=True)):
        able = np.flatnonzero((masses > knee(masses)) & np.isfinite(entropies))
        chosen[sample, able[np.argsort(entropies[able], kind="stable")[:count]]] = True
    return chosen.reshape(mass.shape)
