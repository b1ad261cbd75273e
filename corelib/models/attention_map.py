"""Where does a model look at the moment it begins to answer? A picture of attention that needs no evidence.

    seen = look(vlm, images, "digit on red square ?")
    seen.maps[0]                    # [row, column]: attention on every visual token of the first picture
    draw_look(seen, answer)

It is an illustration, not a measurement: it shows *chosen* heads at *one* row. Chapter 02 measures all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from corelib.attention.record import record
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.core.pictures import Pictured
from corelib.families.base import View
from corelib.families.regions import Grid
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.tasks.sample import Sample


@dataclass(frozen=True)
class AttentionMap:
    """Attention of the last prompt token, the row that predicts the first token of the answer."""

    images: tuple[Image.Image, ...]
    question: str
    maps: tuple[Float[Tensor, "row column"], ...]  # one a picture; the mean over `heads`
    heads: HeadSet
    video: bool = False

    @property
    def visual(self) -> float:
        """The share of the row's attention that falls on the pictures."""
        return float(sum(one.sum() for one in self.maps))


def map_attention(
    vlm: VLM, images: Pictured | Sequence[Pictured], question: str, *, video: bool = False, heads: HeadSet | None = None
) -> AttentionMap:
    """Attention on the pictures from the last prompt token, averaged over `heads`.

    The default is the three heads whose attention to any *one* visual token is highest: the most pointed look at
    something in the pictures. That choice knows nothing of where the answer is; ties go to the lower (layer, head).

    Raises: BadInput if there is no picture, or if the set of heads is empty.

    >>> from corelib import load, task
    >>> sample = task("scenes").sample("test", seed=0, index=0)
    >>> look = map_attention(load("mini-s"), sample.images, sample.question)
    >>> len(look.heads), len(look.maps) == len(sample.images)
    (3, True)
    """
    asked = Sample.of(images, question, video=video)
    if not asked.images:
        raise BadInput("there is no picture to look at: give at least one")
    if heads is not None and not len(heads):
        raise BadInput("the set of heads is empty: give at least one head, or None for the default")
    batch = vlm.encode([asked], answers=False)
    attention = last_row_attention(vlm, batch)[:, 0]  # [layer, head, key]
    chosen = _pointed(attention, batch.visual[0]) if heads is None else heads.check(vlm.num_layers, vlm.num_heads)
    mean = torch.stack([attention[head.layer, head.index] for head in chosen]).mean(0)
    return AttentionMap(asked.images, question, tuple(picture_maps(mean, batch.views[0])), chosen, video)


@torch.no_grad()
def last_row_attention(vlm: VLM, batch: Batch) -> Float[Tensor, "layer batch head key"]:
    """Attention of the last prompt token of every sequence, in every head."""
    with record(vlm.model, batch.rows("last")) as recorded:
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    return recorded.stack()[:, :, :, 0]


def picture_maps(row: Float[Tensor, " key"], views: Sequence[View]) -> list[Float[Tensor, "row column"]]:
    """One row of attention as a map for every picture, in the finest of its views: what falls on another view of it
    goes to the tokens that show the same place. Tokens that show nothing but padding are left out."""
    count = 1 + max(max(view.images) for view in views)
    shown = [[view for view in views if number in view.images] for number in range(count)]
    return [picture_map(row.cpu(), mine)[_on_picture(finest_view(mine).grid)] for mine in shown]


def finest_view(views: Sequence[View]) -> View:
    """The view of a picture that has most tokens."""
    return max(views, key=lambda view: view.grid.tokens)


def _on_picture(grid: Grid) -> tuple[slice, slice]:
    """The rows and columns of tokens that touch the picture itself, and not its padding alone."""
    found = []
    for axis, side in ((0, grid.height), (1, grid.width)):
        xy = 1 - axis
        edges = (grid.edges(axis) - grid.shift[xy]) / grid.scale[xy]
        touching = ((edges[:, 0] < side) & (edges[:, 1] > 0)).nonzero().flatten()
        found.append(slice(int(touching[0]), int(touching[-1]) + 1))
    return found[0], found[1]


def picture_map(row: Float[Tensor, " key"], views: Sequence[View]) -> Float[Tensor, "row column"]:
    """One row of attention as a map of one picture, which all these views show."""
    finest = finest_view(views)
    total = torch.zeros(finest.grid.rows, finest.grid.columns, dtype=row.dtype)
    for view in views:
        mine = row[view.positions].reshape(view.grid.rows, view.grid.columns) / len(view.images)
        if view is not finest:
            down, across = (_shared(view.grid, finest.grid, axis).to(row.dtype) for axis in (0, 1))
            mine = down.T @ mine @ across
        total += mine
    return total


def _shared(one: Grid, other: Grid, axis: int) -> Float[Tensor, "token other"]:
    """How a token of one grid divides among those of another, along one axis: by the length they share."""
    xy = 1 - axis
    (low, high), (start, end) = ((grid.edges(axis) - grid.shift[xy]).T / grid.scale[xy] for grid in (one, other))
    shared = (high[:, None].minimum(end) - low[:, None].maximum(start)).clamp(min=0)
    shared = torch.where(shared.sum(1, keepdim=True) > 0, shared, torch.ones_like(shared))  # of padding: anywhere
    return shared / shared.sum(1, keepdim=True)


def _pointed(attention: Float[Tensor, "layer head key"], visual: Bool[Tensor, " key"], count: int = 3) -> HeadSet:
    peak = attention[..., visual].amax(-1)  # [layer, head]
    best = peak.flatten().argsort(descending=True, stable=True)[:count].tolist()
    return HeadSet(divmod(place, attention.shape[1]) for place in best)
