"""From attention over a picture to the place that it points at.

    first, past, left, right = peak_region(look)       # rows [first, past), columns [left, right)

Two questions are asked of a place: is its highest token the right one ("pointing game"), and does its region overlap
the right one?

Source: the pointing game is Zhang et al. (2016), arXiv:1608.00507; the region around the peak is our definition.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.ndimage import label

from corelib.core.errors import BadInput

HALF = 0.5  # of the peak: what lies above, and hangs together with it, is the region


def peak_region(look: ArrayLike, share: float = HALF) -> tuple[int, int, int, int]:
    """The smallest rectangle of tokens around all that hangs together with the peak and has at least `share` of it:
    rows [first, past) and columns [left, right).

    Args:
        look: [row, column], attention on every token of one picture.
        share: In (0, 1]. Tokens hang together side by side, not across corners.

    Raises: BadInput if `look` is not [row, column], not finite, without any attention, or `share` out of range.

    >>> peak_region([[0.0, 0.4, 0.1], [0.0, 0.3, 0.0], [0.3, 0.0, 0.0]])
    (0, 2, 1, 2)
    """
    table: Float[np.ndarray, "row column"] = np.asarray(look, dtype=float)
    if not 0 < share <= 1:
        raise BadInput(f"share is {share}: give a part of the peak in (0, 1]")
    if table.ndim != 2 or not table.size or not np.isfinite(table).all() or not table.max() > 0:
        raise BadInput(f"attention of shape {table.shape} has no peak: give [row, column] with something above 0")
    parts, _ = label(table >= share * table.max())
    rows, columns = np.nonzero(parts == parts.flat[table.argmax()])
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1
