"""Tables of numbers as heat maps: layers × heads, and heads × query tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet
from corelib.plots.style import BALANCE, EVIDENCE, HEAT, INK, as_table, colour_bar, ink_on, sheet, styled, title


def _scale(low: float, high: float) -> tuple[Normalize, Colormap]:
    """From 0 up; or, if there are negative values, balanced around 0."""
    if low >= 0:
        return Normalize(0, max(high, 1e-9)), HEAT
    most = max(-low, high)
    return Normalize(-most, most), BALANCE


def _bar(
    figure: Figure, axes: Axes | Sequence[Axes], scale: Normalize, colours: Colormap, label: str, chance: float | None
) -> None:
    bar = colour_bar(figure, axes, scale, colours, label, shrink=0.9, aspect=22)
    low, high = bar.ax.get_ylim()
    if chance is not None and low <= chance <= high:
        bar.ax.axhline(chance, color=INK, linewidth=1.2)
        beside = bar.ax.get_yaxis_transform()
        bar.ax.text(-0.25, chance, "chance", fontsize=9, ha="right", va="center", transform=beside)


def _heat(axes: Axes, table: np.ndarray, scale: Normalize, colours: Colormap) -> None:
    axes.imshow(table, cmap=colours, norm=scale, aspect="auto", interpolation="nearest")
    axes.set_xticks(np.arange(table.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(table.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _frame(axes: Axes, x: int, y: int, text: str, shade: Sequence[float], size: float = 9.5) -> None:
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=EVIDENCE, linewidth=2.6, zorder=3))
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=ink_on(shade), zorder=4)


@styled
def head_map(
    scores: ArrayLike | Mapping[str, HeadScores | ArrayLike],
    *,
    chance: float | None = None,
    highlight: HeadSet | None = None,
    label: str = "RAM",
    heading: str = "",
    same_scale: bool = False,
) -> Figure:
    """A score of every head: one row a layer (the deepest on top), one column a head.

    Heads in `highlight` (default for head scores: the top 5 %) are framed, with their score. Several tables,
    `{"raw": scores, …}`, become panels side by side, each on its own scale unless `same_scale`.
    """
    named: Mapping[str, HeadScores | ArrayLike] = scores if isinstance(scores, Mapping) else {"": scores}
    tables = {name: as_table(one) for name, one in named.items()}
    every = np.stack(list(tables.values()))
    layers, heads = next(iter(tables.values())).shape
    columns = min(len(tables), 2) if len(tables) != 3 else 3
    rows = -(-len(tables) // columns)
    wide = min(9.0, columns * max(0.55 * heads + 1.5, 3.0)) if columns > 1 else min(9.0, max(0.62 * heads + 1.6, 4.6))
    tall = rows * (min(6.5, max(0.42 * layers + 0.9, 2.2)) + (0.2 if columns > 1 else 0)) + (0.35 if heading else 0)
    figure, axes = sheet(wide, tall, rows, columns)
    for spare in axes.flat[len(tables) :]:
        spare.set_visible(False)
    for panel, (name, table) in zip(axes.flat, tables.items(), strict=False):
        scale, colours = _scale(every.min(), every.max()) if same_scale else _scale(table.min(), table.max())
        _heat(panel, table, scale, colours)
        panel.invert_yaxis()
        panel.set(xlabel="head", ylabel="layer" if panel.get_subplotspec().is_first_col() else "", title=name)
        for axis, count in ((panel.xaxis, heads), (panel.yaxis, layers)):
            axis.set_ticks(range(0, count, 1 if count <= 16 else 4))
        chosen, given = highlight, named[name]
        if chosen is None and isinstance(given, HeadScores):
            chosen = given.top()
        for head in chosen or ():
            value = table[head.layer, head.index]
            text = "" if heads > 12 else f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"
            text, size = (text, 9.5) if columns < 3 else (text.removeprefix("0"), 8.5)
            _frame(panel, head.index, head.layer, text, colours(float(scale(value))), size)
        if not same_scale:
            _bar(figure, panel, scale, colours, label if columns == 1 else "", chance if columns == 1 else None)
    if same_scale:
        _bar(figure, [panel for panel in axes.flat if panel.get_visible()], scale, colours, label, chance)
    title(figure, heading)
    return figure


@styled
def row_map(
    tables: ArrayLike | Mapping[str, ArrayLike],
    words: Sequence[str],
    heads: Sequence[object],
    *,
    marked: Sequence[int] = (),
    label: str = "RAM of the row",
    across: str = "query token",
    columns: int = 4,
    heading: str = "",
) -> Figure:
    """What heads (rows) do at each query token (columns, the words of question and answer).

    `marked` columns, such as the answer rows, are named in orange. Several tables, `{"step 0": table, …}`, become
    panels on one scale, `columns` of them side by side. The rows may be layers, too, the deepest on top.
    """
    given: Mapping[str, ArrayLike] = tables if isinstance(tables, Mapping) else {"": tables}
    named = {name: as_table(table) for name, table in given.items()}
    every, many = np.stack(list(named.values())), len(named) > 1
    columns = min(columns, len(named))
    rows = -(-len(named) // columns)
    wide = min(9.0, 0.72 * len(words) + 2.4) if not many else 0.42 * len(words) * columns + 2.0
    tall = rows * ((0.36 if not many else 0.3) * every.shape[1] + 1.25) + (0.35 if heading else 0)
    figure, axes = sheet(wide, tall, rows, columns, sharey=True)
    scale, colours = _scale(every.min(), every.max())
    strong = 0.5 * max(every.max(), -every.min(), 1e-9)  # half of the scale
    turn: dict[str, Any] = {"rotation": 40, "ha": "right"} if len(words) > 9 else {"rotation": 90} if many else {}
    for number, (panel, (name, table)) in enumerate(zip(axes.flat, named.items(), strict=False)):
        _heat(panel, table, scale, colours)
        panel.set_title(name)
        below = number + columns < len(named)  # then that panel names the words
        panel.set_xticks(range(len(words)), [word.strip("<|>") * (not below) for word in words], **turn)
        panel.set_yticks(range(len(heads)), [str(head) for head in heads])
        for k in marked:
            panel.get_xticklabels()[k].set(color=EVIDENCE, fontweight="bold")
            place = ((k - 0.5, -0.5), 1, len(table))
            panel.add_patch(Rectangle(*place, fill=False, edgecolor=EVIDENCE, linewidth=2.2, zorder=3))
        for y, x in zip(*np.nonzero(table >= strong), strict=True):
            text, size = (f"{table[y, x]:.2f}", 9.5) if not many else (f"{table[y, x]:.1f}".removeprefix("0"), 8.5)
            panel.text(
                x, y, text, ha="center", va="center", fontsize=size, color=ink_on(colours(float(scale(table[y, x]))))
            )
    for spare in axes.flat[len(named) :]:
        spare.set_visible(False)
    if many:
        axes[0, 0].invert_yaxis()  # shared by all
        figure.supxlabel(across, fontsize=12)
    else:
        axes[0, 0].set_xlabel(across)
    _bar(figure, [panel for panel in axes.flat if panel.get_visible()], scale, colours, label, None)
    title(figure, heading)
    return figure
