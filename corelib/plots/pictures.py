"""Pictures with what is known about them drawn on top: regions, visual tokens, attention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike
from PIL import Image

from corelib.core.errors import BadInput
from corelib.core.geometry import Box
from corelib.families.regions import Grid, box_of_token
from corelib.plots.style import ANCHOR, EVIDENCE, HEAT, INK, MUTED, PAPER, SOFT, bare, colour_bar, sheet, styled, title
from corelib.tasks.sample import Sample

if TYPE_CHECKING:
    from matplotlib.typing import LineStyleType

    from corelib.models.attention_map import AttentionMap


class Stroke(TypedDict):
    """How the outline of a region is drawn."""

    edgecolor: str
    linewidth: float
    linestyle: LineStyleType


STROKES: dict[str, Stroke] = {
    "evidence": {"edgecolor": EVIDENCE, "linewidth": 2.4, "linestyle": "-"},
    "anchor": {"edgecolor": ANCHOR, "linewidth": 2.0, "linestyle": (0, (3, 1.5))},
    "distractor": {"edgecolor": SOFT, "linewidth": 1.2, "linestyle": (0, (1, 1.4))},
}
WIDTH = 9.0  # inches: the width of a page
ROOM = 2.5  # pixels between a region and its outline, so that the outline hides nothing


def _wash(share: ArrayLike) -> np.ndarray:
    """The colour laid over a picture for a share of the scale in [0, 1]: [..., (r, g, b, alpha)]."""
    part = np.clip(np.asarray(share, dtype=float), 0, 1)
    colour: np.ndarray = HEAT(0.45 + 0.25 * part)
    colour[..., 3] = 0.66 * np.sqrt(part)
    return colour


def _key(steps: int = 128) -> ListedColormap:
    """What the wash looks like on paper: the colours of the scale's bar."""
    colour = _wash(np.linspace(0, 1, steps))
    return ListedColormap(colour[:, 3:] * colour[:, :3] + (1 - colour[:, 3:]) * np.array(to_rgb(PAPER)))


def _panels(
    images: Sequence[Image.Image], most: float = 3.4, space: float = 0.0, columns: int = 6
) -> tuple[Figure, list[Axes]]:
    """One bare panel a picture, side by side; more than `columns` go on in the next row."""
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


def _show(axes: Axes, image: Image.Image, *, fade: float = 0.0) -> None:
    """The picture itself; `fade` takes its colour and contrast away, so that something can lie on top."""
    pixels = np.asarray(image.convert("RGB"), dtype=float) / 255
    if fade:
        grey = pixels.mean(-1, keepdims=True).repeat(3, -1)
        pixels = (1 - fade) * grey + fade * np.array(to_rgb(PAPER))
    axes.imshow(pixels, interpolation="nearest", extent=(0, image.width, image.height, 0))
    axes.set(xlim=(0, image.width), ylim=(image.height, 0))


def _outline(axes: Axes, box: Box, kind: str) -> None:
    halo = [withStroke(linewidth=STROKES[kind]["linewidth"] + 2, foreground="white")]
    corner, size = (box.x0 - ROOM, box.y0 - ROOM), (box.x1 - box.x0 + 2 * ROOM, box.y1 - box.y0 + 2 * ROOM)
    axes.add_patch(Rectangle(corner, *size, fill=False, path_effects=halo, clip_on=False, **STROKES[kind]))


def _legend(figure: Figure, kinds: Iterable[str]) -> None:
    strokes = [STROKES[kind] for kind in kinds]
    lines = [Line2D([], [], color=s["edgecolor"], linewidth=s["linewidth"], linestyle=s["linestyle"]) for s in strokes]
    if lines:
        figure.legend(lines, list(kinds), loc="outside lower left", ncols=len(lines), handlelength=2.4)


def _names(images: Sequence[Image.Image], video: bool) -> list[str]:
    return [] if len(images) == 1 else [f"{'frame' if video else 'page'} {k + 1}" for k in range(len(images))]


@styled
def draw_sample(sample: Sample, boxes: bool = True, given: str | None = None) -> Figure:
    """The pictures of a sample, with its question and answer; `given` adds what a model answered."""
    figure, panels = _panels(sample.images, space=0.75)
    for axes, image in zip(panels, sample.images, strict=True):
        _show(axes, image)
    for axes, name in zip(panels, _names(sample.images, sample.video), strict=False):
        axes.set_title(name, fontsize=11, color=SOFT)
    regions = {"distractor": sample.distractors, "anchor": sample.anchors, "evidence": sample.evidence} if boxes else {}
    for kind, mine in regions.items():
        for box in mine:
            _outline(panels[box.image], box, kind)
    _legend(figure, [kind for kind in STROKES if regions.get(kind)])
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
    figure, panels = _panels(images, most=4.6 if len(images) == 1 else 3.4, space=0.35 * bool(heading))
    chosen = [set(map(int, one)) for one in marked] or [set() for _ in images]
    for axes, image, grid, mine in zip(panels, images, grids, chosen, strict=True):
        _show(axes, image)
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
        _outline(panels[box.image], box, "evidence")
    for axes, name in zip(panels, _names(images, video), strict=False):
        axes.set_title(name, fontsize=11, color=SOFT)
    title(figure, heading)
    return figure


def _overlay(axes: Axes, image: Image.Image, weights: ArrayLike, scale: Normalize) -> None:
    """Attention as blue over a faded picture: the more of it, the less of the picture is left to see."""
    _show(axes, image, fade=0.35)
    table = np.asarray(weights, dtype=float)
    axes.imshow(_wash(scale(table)), interpolation="nearest", extent=(0, image.width, image.height, 0))
    rows, columns = table.shape
    for k in range(rows + 1):
        axes.axhline(k * image.height / rows, color="white", linewidth=0.5, alpha=0.6)
    for k in range(columns + 1):
        axes.axvline(k * image.width / columns, color="white", linewidth=0.5, alpha=0.6)
    axes.set(xlim=(0, image.width), ylim=(image.height, 0))


@styled
def draw_attention(
    images: Sequence[Image.Image],
    maps: Mapping[str, Sequence[ArrayLike]] | Sequence[ArrayLike],
    *,
    boxes: Sequence[Box] = (),
    video: bool = False,
    heading: str = "",
) -> Figure:
    """Attention per visual token, over the pictures. `maps[i]` is [row, column] for picture `i`.

    Give several heads as `{"L4H0": maps, …}`: one picture puts them side by side, several put each in its own row.
    All panels share one scale. `boxes` are outlined as evidence.
    """
    named = dict(maps) if isinstance(maps, Mapping) else {"": maps}
    flat = [np.asarray(one, dtype=float) for mine in named.values() for one in mine]
    scale = Normalize(0, max(max(one.max() for one in flat), 1e-9))
    if len(images) == 1:
        figure, panels = _panels([images[0]] * len(named), most=2.8, space=0.6, columns=4 if len(named) == 4 else 3)
        rows = [[panel] for panel in panels]
    else:
        aspect = max(image.height / image.width for image in images)
        wide = min(2.6, (WIDTH - 1.6) / len(images), 7.5 / (aspect * len(named)))
        size = (wide * len(images) + 1.6, (wide * aspect + 0.12) * len(named) + 0.8)
        figure, grid = sheet(*size, len(named), len(images))
        rows = [[bare(panel) for panel in row] for row in grid]
    for (name, mine), panels in zip(named.items(), rows, strict=True):
        for number, (axes, image, one) in enumerate(zip(panels, images, mine, strict=True)):
            _overlay(axes, image, one, scale)
            for box in boxes:
                if box.image == number:
                    _outline(axes, box, "evidence")
        if len(images) == 1:
            panels[0].set_title(name)
        else:
            panels[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
    if len(images) > 1:
        for axes, name in zip(rows[0], _names(images, video), strict=True):
            axes.set_title(name, fontsize=11, color=SOFT)
    every = [axes for row in rows for axes in row]
    colour_bar(figure, every, scale, _key(), "attention on a token", shrink=0.8 / len(rows) ** 0.5, aspect=24)
    if boxes:
        _legend(figure, ["evidence"])
    title(figure, heading)
    return figure


@styled
def draw_attention_map(look: AttentionMap, answer: str = "") -> Figure:
    """Where a model looked when it began to answer."""
    heading = look.question + (f"  →  {answer}" if answer else "")
    figure = draw_attention(look.images, look.maps, video=look.video, heading=heading)
    told = f"{look.visual:.0%} of the attention of {', '.join(look.heads.to_json())} is on the picture"
    figure.supxlabel(told + ("s" if len(look.images) > 1 else ""), x=0.01, ha="left", fontsize=10.5, color=MUTED)
    return figure
