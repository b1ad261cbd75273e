"""Where in the pictures did that answer come from? The heads that fetch it, read as a pointer.

    found = locate(vlm, pages, "What is the total?", scores.top(0.05))
    found.answer, found.page, found.box          # what it says, on which page it looked, and where on it
    found.sure                                   # how much of what these heads pay to the pictures falls into the box

Only heads that were ranked as CoRe heads point; others look about. `experiments/locating.py` measures how often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from corelib.attention.call import AttentionCall
from corelib.attention.record import record, row_index
from corelib.core.errors import BadInput
from corelib.core.geometry import Box
from corelib.core.heads import HeadSet
from corelib.core.pictures import Pictured
from corelib.families.base import View
from corelib.families.regions import box_of_token
from corelib.metrics.pointing import peak_region
from corelib.models.attention_map import finest_view, picture_map, picture_maps
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.tasks.sample import Sample


@dataclass(frozen=True)
class Place:
    """What a row of attention points at."""

    shares: tuple[float, ...]  # of all that is paid to the pictures, what each of them gets
    page: int  # the picture that gets most
    box: Box  # around the peak on it (`peak_region`)
    sure: float  # the share of all that is paid to the pictures that falls into the box, in [0, 1]


@dataclass(frozen=True)
class Located:
    """An answer, and where it was fetched."""

    images: tuple[Image.Image, ...]
    question: str
    answer: str
    heads: HeadSet
    place: Place
    maps: tuple[Float[Tensor, "row column"], ...]  # attention on every token of each picture, the mean over `heads`
    video: bool = False

    @property
    def page(self) -> int:
        """The picture that the heads look at, from 0."""
        return self.place.page

    @property
    def box(self) -> Box:
        return self.place.box

    @property
    def sure(self) -> float:
        return self.place.sure

    def ranked(self) -> list[tuple[int, float]]:
        """All pictures with their shares of the look, the most looked at first."""
        return sorted(enumerate(self.place.shares), key=lambda one: -one[1])


def weights_of(sets: Sequence[HeadSet], layers: int, heads: int) -> Float[Tensor, "set layer head"]:
    """For each set, the weights of a mean over its heads.

    Raises: BadInput if a set is empty, or has a head that is not there.
    """
    found = torch.zeros(len(sets), layers, heads)
    for number, one in enumerate(sets):
        if not one:
            raise BadInput("a set of heads is empty: give at least one head")
        for head in one.check(layers, heads):
            found[number, head.layer, head.index] = 1 / len(one)
    return found


@torch.no_grad()
def answer_looks(vlm: VLM, batch: Batch, weights: Float[Tensor, "set layer head"]) -> Float[Tensor, "set sample token"]:
    """Attention at the rows that predict the answer, as a mean over these rows and, by `weights`, over heads. In
    float32, on the CPU."""
    rows = batch.rows("answer")
    _, real = row_index(rows)
    share = (real / real.sum(1, keepdim=True)).float()

    def reduce(call: AttentionCall, attention: Tensor) -> Float[Tensor, "sample set token"]:
        with torch.autocast(attention.device.type, enabled=False):
            mean = torch.einsum("bhrk,br->bhk", attention.float(), share.to(attention.device))
            return torch.einsum("bhk,sh->bsk", mean, weights[:, call.layer].to(mean))

    with record(vlm.model, rows, reduce=reduce) as recorded:
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    return recorded.stack().sum(0).transpose(0, 1).cpu()


def place_of(look: Float[Tensor, " token"], views: Sequence[View]) -> Place:
    """What one row of attention points at.

    Raises: BadInput if nothing of it falls on a picture.
    """
    count = 1 + max(max(view.images) for view in views)
    paid = [0.0] * count
    for view in views:
        for image in view.images:
            paid[image] += float(look[view.positions].sum()) / len(view.images)
    whole = sum(paid)
    if not whole > 0:
        raise BadInput("these heads pay nothing to the pictures: choose others")
    page = max(range(count), key=lambda one: (paid[one], -one))
    mine = [view for view in views if page in view.images]
    table = picture_map(look, mine)
    finest = finest_view(mine)
    first, past, left, right = peak_region(table)
    corners = [first * finest.grid.columns + left, (past - 1) * finest.grid.columns + right - 1]
    start, end = (box_of_token(finest.grid, corner) for corner in corners)
    box = Box(start.x0, start.y0, end.x1, end.y1, page)
    return Place(tuple(one / whole for one in paid), page, box, float(table[first:past, left:right].sum()) / whole)


def locate(
    vlm: VLM,
    images: Pictured | Sequence[Pictured],
    question: str,
    heads: HeadSet,
    *,
    video: bool = False,
    tokens: int = 8,
) -> Located:
    """Let the model answer, and read off where `heads` looked at the rows that predict what it wrote.

    Args:
        vlm: The model.
        images: Pages, pictures, or the frames of one clip (`video`).
        question: What to ask.
        heads: Those that point: the top of a ranking of this model (`HeadScores.top`).
        video: The images are the frames of one clip.
        tokens: The length of the answer, at most.

    Raises: BadInput if there is no picture or no head, or the model cannot read the question.

    >>> from corelib import atlas, load, task
    >>> sample = task("scenes").sample("test", seed=0, index=0)
    >>> heads = atlas.cell("mini-s", "scenes").scores().top(0.05)
    >>> found = locate(load("mini-s"), sample.images, sample.question, heads)
    >>> found.answer == sample.answer, found.box
    (True, Box(x0=160.0, y0=0.0, x1=192.0, y1=32.0, image=0))
    """
    asked = Sample.of(images, question, video=video)
    if not asked.images:
        raise BadInput("there is no picture to look at: give at least one")
    weights = weights_of([heads], vlm.num_layers, vlm.num_heads)
    answer = vlm.generate(vlm.encode([asked], answers=False), tokens)[0].strip()
    batch = vlm.encode([replace(asked, answer=answer)], answers=bool(answer))
    look = answer_looks(vlm, batch, weights)[0, 0]
    maps = tuple(picture_maps(look, batch.views[0]))
    return Located(asked.images, question, answer, heads, place_of(look, batch.views[0]), maps, video)
