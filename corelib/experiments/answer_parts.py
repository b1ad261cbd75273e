"""Which part of the evidence belongs to which token of the answer? A value of three digits is read in three places.

mask, complete = answer_parts(batch)
mask[0, 1]                          # the visual tokens in which the second token of the first answer is to be read
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from corelib.core.geometry import Box
from corelib.families.regions import coverage
from corelib.models.batch import Batch


def answer_parts(
    batch: Batch, *, shared: bool = False
) -> tuple[Bool[Tensor, "sample part token"], Bool[Tensor, " sample"]]:
    """The evidence in parts from left to right, one for each token of the answer, and whether none of them is empty.

    Each visual token belongs to the part that covers most of it, or, if they may be `shared`, to all that touch it.
    Text is one part: its spans.

    Raises:
        BadInput, BadRegion: As `Batch.cover`.

    >>> from corelib import load, task
    >>> mask, complete = answer_parts(load("mini-s").encode(task("documents").samples("test", 0, 2)), shared=True)
    >>> mask.shape[:2], bool(complete.all())
    (torch.Size([2, 3]), True)
    """
    pictures = batch.visual.any(1)
    counts = torch.where(pictures, batch.lengths[:, 2].clamp(min=1).to(pictures.device), 1)
    most = int(counts.max())
    mask = torch.zeros(len(batch.samples), most, batch.tokens.shape[1], dtype=torch.bool, device=batch.tokens.device)
    for row, (sample, views, count) in enumerate(zip(batch.samples, batch.views, counts.tolist(), strict=True)):
        if count == 1:
            mask[row, 0] = batch.evidence[row]
            continue
        for box in sample.evidence:
            for view in (view for view in views if box.image in view.images):
                shares = torch.stack([coverage(view.grid, one) for one in _columns(box, count)])
                if shared:
                    mask[row, :count][:, view.positions] |= shares > 0
                    continue
                touched = shares.amax(0) > 0
                mask[row, shares.argmax(0)[touched], view.positions[touched]] = True
    asked = torch.arange(most, device=mask.device) < counts[:, None]
    return mask, (mask.any(-1) | ~asked).all(-1)


def _columns(box: Box, count: int) -> list[Box]:
    """A box, cut into so many columns of one width, without its picture's number."""
    wide = (box.x1 - box.x0) / count
    return [Box(box.x0 + k * wide, box.y0, box.x0 + (k + 1) * wide, box.y1) for k in range(count)]
