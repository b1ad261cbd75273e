"""Attention over the pictures that it goes to: blue where the weight is, the picture faded behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from corelib.core.geometry import Box
from corelib.plots.pictures import WIDTH, outline, picture_names, picture_panels, region_legend, show_picture
from corelib.plots.style import HEAT, PAPER, SOFT, bare, colour_bar, sheet, styled, title

if TYPE_CHECKING:
    from corelib.models.attention_map import AttentionMap
    from corelib.models.locate import Located

MOST = 4  # pictures of `draw_located`


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


def _overlay(axes: Axes, image: Image.Image, weights: ArrayLike, scale: Normalize) -> None:
    """Attention as blue over a faded picture: the more of it, the less of the picture is left to see."""
    show_picture(axes, image, fade=0.35)
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
    targets: Sequence[Box] = (),
    found: Sequence[Box] = (),
    video: bool = False,
    heading: str = "",
    told: str = "",
) -> Figure:
    """Attention per visual token, over the pictures. `maps[i]` is [row, column] for picture `i`.

    Give several heads as `{"L4H0": maps, …}`: one picture puts them side by side, several put each in its own row.
    All panels share one scale. `boxes` are outlined as evidence, `targets` as where the gaze is moved to, `found` as
    what the heads point at. `told` is a line below.
    """
    named = dict(maps) if isinstance(maps, Mapping) else {"": maps}
    outlined = {"evidence": boxes, "target": targets, "pointed at": found}
    flat = [np.asarray(one, dtype=float) for mine in named.values() for one in mine]
    scale = Normalize(0, max(max(one.max() for one in flat), 1e-9))
    if len(images) == 1:
        figure, panels = picture_panels(
            [images[0]] * len(named), most=2.8, space=0.6, columns=4 if len(named) == 4 else 3
        )
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
            for kind, regions in outlined.items():
                for box in regions:
                    if box.image == number:
                        outline(axes, box, kind)
        if len(images) == 1:
            panels[0].set_title(name)
        else:
            panels[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
    if len(images) > 1:
        for axes, name in zip(rows[0], picture_names(images, video), strict=True):
            axes.set_title(name, fontsize=11, color=SOFT)
    every = [axes for row in rows for axes in row]
    colour_bar(figure, every, scale, _key(), "attention on a token", shrink=0.8 / len(rows) ** 0.5, aspect=24)
    region_legend(figure, [kind for kind, regions in outlined.items() if regions], told)
    title(figure, heading)
    return figure


@styled
def draw_attention_map(look: AttentionMap, answer: str = "", *, targets: Sequence[Box] = ()) -> Figure:
    """Where a model looked when it began to answer; `targets` are where it is told to look."""
    heading = look.question + (f"  →  {answer}" if answer else "")
    pictures = "the pictures" if len(look.images) > 1 else "the picture"
    told = f"{look.visual:.0%} of the attention of {', '.join(look.heads.to_json())} is on {pictures}"
    return draw_attention(look.images, look.maps, targets=targets, video=look.video, heading=heading, told=told)


@styled
def draw_located(found: Located) -> Figure:
    """Where an answer was read: the pictures that the heads look at most, with what they point at."""
    shown = sorted(number for number, _ in found.ranked()[:MOST])
    figure = draw_attention(
        [found.images[number] for number in shown],
        [found.maps[number] for number in shown],
        found=[replace(found.box, image=shown.index(found.page))],
        video=found.video,
        heading=f"{found.question}  →  {found.answer}",
        told=f"{found.sure:.0%} of what {len(found.heads)} heads pay to the pictures lies in the box",
    )
    names = picture_names(found.images, found.video)
    for axes, number in zip(figure.axes, shown, strict=False):
        if names:
            axes.set_title(f"{names[number]}: {found.place.shares[number]:.0%}", fontsize=11, color=SOFT)
    return figure
