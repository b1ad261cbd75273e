"""The sequence as the language model sees it: one chip a token in reading order, or one row and column a token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from numpy.typing import ArrayLike

from corelib.plots.style import EVIDENCE, HEAT, LINE, MUTED, bare, colour_bar, ink_on, sheet, styled, title

KINDS = {  # a kind of token → its colour
    "special": "#c9c3b4",
    "text": "#ffffff",
    "visual": "#8fc0e0",
    "evidence": EVIDENCE,
    "question": "#f2e2a8",
    "answer": "#a9d6b8",
}
LETTER, PAD, NARROW, GAP = 0.098, 0.14, 0.20, 0.035  # inches: the widths that chips are made of
LINE_HEIGHT, CHIP = 0.42, 0.30


def _flow(widths: Sequence[float], limit: float) -> list[tuple[float, int]]:
    """Left edge and line of every chip, wrapped like text.

    >>> _flow([0.5, 0.5, 0.5], 1.2)
    [(0.0, 0), (0.535, 0), (0.0, 1)]
    """
    places, x, line = [], 0.0, 0
    for width in widths:
        if x and x + width > limit:
            x, line = 0.0, line + 1
        places.append((round(x, 6), line))
        x += width + GAP
    return places


@styled
def draw_strip(
    words: Sequence[str],
    kinds: Sequence[str],
    values: Sequence[float] | None = None,
    *,
    heading: str = "",
    label: str = "attention",
    width: float = 9.0,
) -> Figure:
    """Tokens in reading order, coloured by kind; with `values`, shaded by them, and the evidence outlined.

    Visual tokens are narrow chips without a word. Kinds are the keys of `KINDS`.
    """
    pairs = zip(words, kinds, strict=True)
    shown = ["" if kind in ("visual", "evidence") else word.strip("<|>") for word, kind in pairs]
    widths = [NARROW if not word else max(NARROW, PAD + LETTER * len(word)) for word in shown]
    places = _flow(widths, width - 0.2)
    lines = places[-1][1] + 1
    figure, axes = sheet(width, LINE_HEIGHT * lines + (0.75 if heading else 0.45) + (0.2 if values is not None else 0))
    panel = bare(axes[0, 0])
    panel.set(xlim=(-0.05, width - 0.15), ylim=(LINE_HEIGHT * lines, -0.06))
    scale = None if values is None else Normalize(0, max(float(np.max(values)), 1e-9))
    for k, ((x, line), wide, kind, word) in enumerate(zip(places, widths, kinds, shown, strict=True)):
        face = to_rgb(KINDS[kind]) if scale is None or values is None else HEAT(float(scale(values[k])))[:3]
        edge = EVIDENCE if kind == "evidence" and scale is not None else LINE if sum(face) > 2.6 else face
        heavy = 2.4 if kind == "evidence" and scale is not None else 0.9
        place = ((x, line * LINE_HEIGHT), wide, CHIP, "round,pad=0,rounding_size=0.05")
        panel.add_patch(FancyBboxPatch(*place, facecolor=face, edgecolor=edge, linewidth=heavy))
        panel.text(
            x + wide / 2, line * LINE_HEIGHT + CHIP / 2, word, ha="center", va="center_baseline", fontsize=10,
            color=ink_on(face), family="DejaVu Sans Mono",
        )  # fmt: skip
    if scale is None:
        present = [kind for kind in KINDS if kind in set(kinds)]
        chips = [Rectangle((0, 0), 1, 1, facecolor=KINDS[kind], edgecolor=LINE) for kind in present]
        figure.legend(chips, present, loc="outside lower left", ncols=len(chips), handlelength=1.2)
    else:
        bar = colour_bar(figure, panel, scale, HEAT, label, location="bottom", shrink=0.4, aspect=30, pad=0.03)
        bar.ax.xaxis.label.set_fontsize(10.5)
    title(figure, heading)
    return figure


@styled
def draw_matrix(attention: ArrayLike, kinds: Sequence[str], *, heading: str = "") -> Figure:
    """All of one head's attention, [query, key]; bands along both axes say which tokens are of which kind.

    The shade grows with the square root of attention, so that small amounts can be seen.
    """
    table = np.asarray(attention, dtype=float)
    count = len(table)
    figure, axes = sheet(6.2, 5.6)
    panel = bare(axes[0, 0])
    scale = PowerNorm(0.5, 0, max(table.max(), 1e-9))
    seen = np.ma.masked_where(np.triu(np.ones_like(table), 1) > 0, table)
    panel.imshow(seen, cmap=HEAT, norm=scale, interpolation="nearest")
    panel.add_patch(Polygon([(-0.5, -0.5), (count - 0.5, -0.5), (count - 0.5, count - 0.5)], facecolor="#ece7da"))
    panel.text(count * 0.69, count * 0.27, "the future:\nnot visible", ha="center", va="center", color=MUTED)
    band = 0.028 * count
    for k, kind in enumerate(kinds):
        panel.add_patch(Rectangle((k - 0.5, count - 0.5 + band * 0.4), 1, band, facecolor=KINDS[kind], clip_on=False))
        panel.add_patch(Rectangle((-0.5 - band * 1.4, k - 0.5), band, 1, facecolor=KINDS[kind], clip_on=False))
    panel.set(xlim=(-0.5 - 1.5 * band, count - 0.5), ylim=(count - 0.5 + 1.5 * band, -0.5))
    panel.set_xlabel("is looked at (key)")
    panel.set_ylabel("looks (query)")
    colour_bar(figure, panel, scale, HEAT, "attention", shrink=0.8, aspect=26)
    present = [kind for kind in KINDS if kind in set(kinds)]
    chips = [Rectangle((0, 0), 1, 1, facecolor=KINDS[kind], edgecolor=LINE) for kind in present]
    figure.legend(chips, present, loc="outside lower left", ncols=len(chips), handlelength=1.2)
    title(figure, heading)
    return figure
