"""Pictures with what is known about them drawn on top: the regions of a sample, the grid of visual tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from corelib.core.errors import BadInput
from corelib.core.geometry import Box
from corelib.families.regions import Grid, box_of_token
from corelib.plots.style import ANCHOR, EVIDENCE, INK, MUTED, PAPER, SOFT, bare, sheet, styled, title
from corelib.tasks.sample import Sample

if TYPE_CHECKING:
    from matplotlib.typing import LineStyleType


class Stroke(TypedDict):
    """How the outline of a region is drawn."""

    edgecolor: str
    linewidth: float
    linestyle: LineStyleType


STROKES: dict[str, Stroke] = {
    "evidence": {"edgecolor": EVIDENCE, "linewidth": 2.4, "linestyle": "-"},
    "target": {"edgecolor": ANCHOR, "linewidth": 2.4, "linestyle": "-"},
    "pointed at": {"edgecolor": INK, "linewidth": 2.4, "linestyle": "-"},
    "anchor": {"edgecolor": ANCHOR, "linewidth": 2.0, "linestyle": (0, (3, 1.5))},
    "distractor": {"edgecolor": SOFT, "linewidth": 1.2, "linestyle": (0, (1, 1.4))},
}
WIDTH = 9.0  # inches: the width of a page
ROOM = 2.5  # pixels between a region and its outline, so that the outline hides nothing


def picture_panels(
    images: Sequence[Image.Image], most: float = 3.4, space: float = 0.0, columns: int = 6
) -> tuple[Figure, list[Axes]]:
    """One bare panel a picture, side by side; more than `columns` go on in the next row.

    Raises: BadInput if there is no picture.
    """
    if not images:
        raise BadInput("there is no picture to draw: text-only samples have none")
    columns = min(len(images), columns)
    rows = -(-len(images) // columns)
    wide = min(most, WIDTH / columns)
    tall = wide * max(image.height / image.width for image in images)
    figure, axes = sheet(max(wide * columns, 4.6), (tall + 0.25) * rows + space, rows, columns)
    for spare in axes.flat[len(images) :]:
        spare.set_visible(False)
    return figure, [bare(one) for one in axes.flat[: len(images)]]


def show_picture(axes: Axes, image: Image.Image, *, fade: float = 0.0) -> None:
    """The picture itself; `fade` takes its colour and contrast away, so that something can lie on top."""
    pixels = np.asarray(image.convert("RGB"), dtype=float) / 255
    if fade:
        grey = pixels.mean(-1, keepdims=True).repeat(3, -1)
        pixels = (1 - fade) * grey + fade * np.array(to_rgb(PAPER))
    axes.imshow(pixels, interpolation="nearest", extent=(0, image.width, image.height, 0))
    axes.set(xlim=(0, image.width), ylim=(image.height, 0))


def outline(axes: Axes, box: Box, kind: str) -> None:
    """The outline of a region, in the stroke of its kind, just outside it."""
    halo = [withStroke(linewidth=STROKES[kind]["linewidth"] + 2, foreground="white")]
    corner, size = (box.x0 - ROOM, box.y0 - ROOM), (box.x1 - box.x0 + 2 * ROOM, box.y1 - box.y0 + 2 * ROOM)
    axes.add_patch(Rectangle(corner, *size, fill=False, path_effects=halo, clip_on=False, **STROKES[kind]))


def region_legend(figure: Figure, kinds: Iterable[str], told: str = "") -> None:
    """What the outlines mean, and what else is told, below the figure."""
    strokes = [STROKES[kind] for kind in kinds]
    lines = [Line2D([], [], color=s["edgecolor"], linewidth=s["linewidth"], linestyle=s["linestyle"]) for s in strokes]
    if lines:
        figure.legend(
            lines, list(kinds), loc="outside lower left", ncols=len(lines), handlelength=2.4,
            title=told or None, title_fontsize=10.5, alignment="left",
        )  # fmt: skip
    elif told:
        figure.supxlabel(told, x=0.01, ha="left", fontsize=10.5, color=MUTED)


def picture_names(images: Sequence[Image.Image], video: bool) -> list[str]:
    """`page 1`, `page 2`, … or `frame 1`, …; a single picture has no name."""
    return [] if len(images) == 1 else [f"{'frame' if video else 'page'} {k + 1}" for k in range(len(images))]


@styled
def draw_sample(sample: Sample, boxes: bool = True, given: str | None = None) -> Figure:
    """The pictures of a sample, with its question and answer; `given` adds what a model answered."""
    figure, panels = picture_panels(sample.images, space=0.75)
    for axes, image in zip(panels, sample.images, strict=True):
        show_picture(axes, image)
    for axes, name in zip(panels, picture_names(sample.images, sample.video), strict=False):
        axes.set_title(name, fontsize=11, color=SOFT)
    regions = {"distractor": sample.distractors, "anchor": sample.anchors, "evidence": sample.evidence} if boxes else {}
    for kind, mine in regions.items():
        for box in mine:
            outline(panels[box.image], box, kind)
    region_legend(figure, [kind for kind in STROKES if regions.get(kind)])
    heading = f"{sample.question}  →  {sample.answer}"
    if given is not None:
        heading += f"     model: {given} {'✓' if given == sample.answer else '✗'}"
    title(figure, heading)
    return figure


@styled
def draw_tokens(
    images: Sequence[Image.Image],
    grids: Sequence[Grid],
    marked: Sequence[Iterable[int]] = (),
    boxes: Sequence[Box] = (),
    numbers: bool = True,
    video: bool = False,
    heading: str = "",
) -> Figure:
    """The grid of visual tokens over each picture; `marked[i]` are tokens of picture `i` to fill in."""
    figure, panels = picture_panels(images, most=4.6 if len(images) == 1 else 3.4, space=0.35 * bool(heading))
    chosen = [set(map(int, one)) for one in marked] or [set() for _ in images]
    for axes, image, grid, mine in zip(panels, images, grids, chosen, strict=True):
        show_picture(axes, image)
        for token in range(grid.rows * grid.columns):
            box = box_of_token(grid, token)
            corner, size = (box.x0, box.y0), (box.x1 - box.x0, box.y1 - box.y0)
            if token in mine:
                axes.add_patch(Rectangle(corner, *size, facecolor=EVIDENCE, alpha=0.5, edgecolor="none"))
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=1.4))
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=INK, linewidth=0.5, alpha=0.7))
            if numbers:
                halo = [withStroke(linewidth=2, foreground="white")]
                place = (box.x0 + 0.06 * size[0], box.y0 + 0.08 * size[1])
                axes.text(*place, str(token), fontsize=8.5, ha="left", va="top", color=INK, path_effects=halo)
    for box in boxes:
        outline(panels[box.image], box, "evidence")
    for axes, name in zip(panels, picture_names(images, video), strict=False):
        axes.set_title(name, fontsize=11, color=SOFT)
    title(figure, heading)
    return figure
