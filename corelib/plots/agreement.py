"""Two rankings of the same heads, or many: which heads lead in both, and in which layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike

from corelib.core.head_scores import HeadScores
from corelib.core.heads import Head
from corelib.plots.naming import name_points
from corelib.plots.style import (
    DEPTH,
    EVIDENCE,
    INK,
    LINE,
    MUTED,
    PAPER,
    SOFT,
    TASK_COLOURS,
    as_table,
    colour_bar,
    ink_on,
    legend_below,
    sheet,
    styled,
    title,
)

LEAST = 1e-3  # a score below it is drawn there


@styled
def head_scatter(
    across: HeadScores,
    up: HeadScores,
    names: tuple[str, str],
    *,
    fraction: float = 0.05,
    named: int = 3,
    heading: str = "",
) -> Figure:
    """Every head under two scores, on logarithmic axes. Beyond each dashed line lies one score's top `fraction`.

    The shade tells the layer. The `named` best of each score, and all that are in both sets, carry their names.
    """
    x, y = (np.maximum(as_table(scores), LEAST) for scores in (across, up))
    tops = [scores.top(fraction) for scores in (across, up)]
    lines = [min(table[head.layer, head.index] for head in top) for table, top in zip((x, y), tops, strict=True)]
    both = tops[0] & tops[1]
    figure, axes = sheet(7.4, 5.6)
    panel = axes[0, 0]
    layer = np.repeat(np.arange(x.shape[0]), x.shape[1])
    scale = Normalize(0, x.shape[0] - 1)
    panel.scatter(x, y, c=layer, cmap=DEPTH, norm=scale, s=34, edgecolor="white", linewidth=0.5, zorder=3)
    for head in both:
        panel.scatter(*_at(head, x, y), s=95, facecolor="none", edgecolor=EVIDENCE, linewidth=1.8, zorder=4)
    dashed = {"color": SOFT, "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 1}
    panel.axvline(lines[0], **dashed)
    panel.axhline(lines[1], **dashed)
    panel.axvspan(lines[0], 1, color=EVIDENCE, alpha=0.05, linewidth=0)
    panel.axhspan(lines[1], 1, color=EVIDENCE, alpha=0.05, linewidth=0)
    panel.set(xscale="log", yscale="log", xlim=(LEAST * 0.8, 1), ylim=(LEAST * 0.8, 1))
    some = sorted({*both, *across.order()[:named], *up.order()[:named]})
    name_points(panel, [(*_at(head, x, y), str(head)) for head in some])
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    panel.set(xlabel=f"RAM: {names[0]}", ylabel=f"RAM: {names[1]}")
    panel.grid(color=LINE, linewidth=0.7)
    panel.set_axisbelow(True)
    colour_bar(figure, panel, scale, DEPTH, "layer", shrink=0.9, aspect=26)
    title(figure, heading)
    return figure


def _at(head: Head, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Where the dot of a head stands."""
    return x[head.layer, head.index], y[head.layer, head.index]


@styled
def agreement_map(
    names: Sequence[str], agreement: ArrayLike, notes: Sequence[Sequence[str]] = (), *, heading: str = ""
) -> Figure:
    """Every ranking against every other: `agreement[a][b]` is a number from 0 to 1 (a shade), and `notes[a][b]` stands
    below it."""
    table = as_table(agreement)
    count, small = len(names), len(names) > 8  # many names: small squares, and no room for notes
    width, height = (0.42 * count + 2.1, 0.32 * count + 1.6) if small else (1.4 * count + 2.0, 0.78 * count + 0.9)
    figure, axes = sheet(width, height + (0.35 if heading else 0))
    panel = axes[0, 0]
    texts = [[f"{round(value, 2) + 0:.2f}" for value in row] for row in table]  # + 0: no negative zero
    if small:
        texts = [[text.replace("0.", ".") for text in row] for row in texts]
    elif notes:
        texts = [
            [f"{text}\n{note}" for text, note in zip(*pair, strict=True)] for pair in zip(texts, notes, strict=True)
        ]
    seaborn.heatmap(
        table, vmin=0, vmax=1, cmap=DEPTH, mask=np.eye(count, dtype=bool), cbar=False, ax=panel,
        annot=texts, fmt="", annot_kws={"fontsize": 8 if small else 10.5, "linespacing": 1.4},
        xticklabels=names, yticklabels=names,
    )  # fmt: skip
    faces = panel.collections[0].get_facecolors()[~np.eye(count, dtype=bool).ravel()]
    for text, face in zip(panel.texts, faces, strict=True):
        text.set_color(ink_on(face))
    panel.tick_params(axis="y", rotation=0)
    panel.set_xticks(panel.get_xticks(), names, **({"rotation": 40, "ha": "left"} if small else {"rotation": 0}))
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    title(figure, heading)
    return figure


@styled
def layer_chart(curves: Mapping[str, Sequence[float]], *, label: str = "share of all RAM", heading: str = "") -> Figure:
    """A number a layer, one curve a name. Names of tasks have their colours; the others are grey, and dashed."""
    figure, axes = sheet(9.0, 3.6)
    panel = axes[0, 0]
    for name, values in curves.items():
        known = name in TASK_COLOURS
        style = {"color": TASK_COLOURS[name], "linewidth": 2} if known else {"color": MUTED, "linestyle": (0, (4, 2))}
        panel.plot(range(len(values)), values, marker="o", markersize=3.5, label=name, **style)
    panel.set(xlabel="layer", ylabel=label, ylim=(0, None))
    panel.grid(axis="y", color=LINE, linewidth=0.7)
    panel.set_axisbelow(True)
    figure.legend(loc="outside lower left", ncols=3)
    title(figure, heading)
    return figure


@styled
def overlap_chart(
    groups: Mapping[str, Mapping[str, Mapping[str, float]]], *, level: float = 0.05, heading: str = ""
) -> Figure:
    """Which share of one top set is in the other? One line a pair: `groups[model][pair]` has `shared`, the shares by
    `chance` and in `matched` draws (of the same layers and key/value groups), and `p` of the latter; `itself`, the
    share on other samples, if it is known.

    A full dot: p < `level`, more than matched draws would share.
    """
    lines = [(name, found) for pairs in groups.values() for name, found in pairs.items()]
    starts = np.cumsum([0, *(len(pairs) + 1 for pairs in groups.values())])  # a line above each group for its name
    places = np.concatenate(
        [start + 1 + np.arange(len(pairs)) for start, pairs in zip(starts[:-1], groups.values(), strict=True)]
    )
    figure, axes = sheet(9.0, 0.3 * starts[-1] + 1.2)
    panel = axes[0, 0]
    marks = {
        "chance": ("random sets", {"marker": "|", "color": MUTED, "s": 130}),
        "matched": ("draws of the same layers and groups", {"marker": "|", "color": INK, "s": 130}),
        "itself": (
            "the same ranking on other samples",
            {"marker": "D", "facecolor": "none", "edgecolor": MUTED, "s": 34},
        ),
    }
    for key, (what, style) in marks.items():
        known = [(found[key], place) for (_, found), place in zip(lines, places, strict=True) if key in found]
        if known:
            panel.scatter(*zip(*known, strict=True), label=what, zorder=2, **style)
    for sure, what in ((True, f"shared, p < {level:g}"), (False, f"shared, p ≥ {level:g}")):
        mine = [
            (found["shared"], place)
            for (_, found), place in zip(lines, places, strict=True)
            if (found["p"] < level) == sure
        ]
        dots = {"s": 75, "edgecolor": EVIDENCE, "facecolor": EVIDENCE if sure else PAPER, "linewidth": 1.6}
        panel.scatter(*(zip(*mine, strict=True) if mine else ((), ())), label=what, zorder=3, **dots)
    panel.hlines(places, 0, 1, color=LINE, linewidth=0.8, zorder=0)
    panel.set_yticks(places, [name for name, _ in lines])
    for start, name in zip(starts[:-1], groups, strict=True):
        panel.text(0, start, name, fontweight="bold", va="center", fontsize=11)
    panel.set(
        xlim=(-0.02, 1.02), ylim=(starts[-1] - 0.4, -0.6), xlabel="share of the top 5 % that is in the other top 5 %"
    )
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    legend_below(figure, panel)
    title(figure, heading)
    return figure
