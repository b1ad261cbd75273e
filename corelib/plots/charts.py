"""Numbers with their intervals: heads in order of their score, and accuracy under conditions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from corelib.core.head_scores import HeadScores
from corelib.core.values import Accuracy
from corelib.plots.style import ATTENTION, EVIDENCE, INK, LINE, MUTED, SOFT, as_table, ink_on, sheet, styled, title

CONTROL_LINES = ("-", (0, (4, 2)), (0, (1, 1.5)))
PARTS = (EVIDENCE, "#8fc0e0", "#c9c3b4", "#f2e2a8", "#a9d6b8", "#cfb7dd")  # colours of the parts of a whole, in order


@styled
def ranked_curve(
    scores: HeadScores,
    *,
    chance: float | None = None,
    controls: Mapping[str, ArrayLike] | None = None,
    fraction: float = 0.05,
    label: str = "RAM",
    heading: str = "",
) -> Figure:
    """All heads from the highest score to the lowest, with intervals; the top `fraction` is marked and named.

    `controls`, tables [layer][head] by name, are drawn as lines, each in its own order: what the shape of the curve
    would be without the effect.
    """
    order, top = scores.order(), scores.top(fraction)
    tables: tuple[ArrayLike, ...] = (scores, scores.interval.low, scores.interval.high)
    values, low, high = (np.array([table[head.layer, head.index] for head in order]) for table in map(as_table, tables))
    place = np.arange(1, len(order) + 1)
    figure, axes = sheet(9.0, 3.9)
    panel = axes[0, 0]
    chosen = np.array([head in top for head in order])
    for mask, colour, size in ((chosen, EVIDENCE, 46), (~chosen, ATTENTION, 20)):
        panel.vlines(place[mask], low[mask], high[mask], color=colour, linewidth=1.6, alpha=0.55)
        panel.scatter(place[mask], values[mask], s=size, color=colour, zorder=3, edgecolor="white", linewidth=0.6)
    for head, x, y in zip(order, place[chosen], high[chosen], strict=False):
        away = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "rotation": 90}
        panel.annotate(str(head), (x, y), fontsize=10.5, color=EVIDENCE, **away)
    for (name, table), style in zip((controls or {}).items(), CONTROL_LINES, strict=False):
        line = np.sort(as_table(table).flatten())[::-1]
        panel.plot(place, line, color=SOFT, linestyle=style, linewidth=1.5, label=name)
    if chance is not None:
        panel.axhline(chance, color=INK, linewidth=1, linestyle=(0, (5, 3)))
        panel.text(place[-1] + 0.5, chance, "uniform look ", ha="right", va="bottom", fontsize=10.5, color=INK)
    if controls:
        panel.legend(loc="upper right")
    panel.axvspan(0.4, chosen.sum() + 0.5, color=EVIDENCE, alpha=0.08, linewidth=0)
    panel.set(xlim=(0.4, len(order) + 0.8), ylim=(min(0.0, low.min()) * 1.05, high.max() * 1.3))
    panel.set(xlabel=f"heads, highest {label} first (shaded: the top {fraction:.0%})", ylabel=label)
    panel.grid(axis="y", color=LINE, linewidth=0.7)
    panel.set_axisbelow(True)
    title(figure, heading)
    return figure


@styled
def accuracy_chart(
    table: Mapping[str, Mapping[str, Accuracy]], *, label: str = "accuracy", heading: str = ""
) -> Figure:
    """`table[group][condition]` is an `Accuracy`: one panel a group, one line a condition."""
    groups = list(table)
    names = list(dict.fromkeys(name for group in table.values() for name in group))
    figure, axes = sheet(9.0, 0.42 * len(names) + 1.25 + (0.35 if heading else 0), 1, len(groups), sharey=True)
    for panel, group in zip(axes[0], groups, strict=True):
        for y, name in enumerate(names):
            if name not in table[group]:
                continue
            found = table[group][name]
            colour = ATTENTION if y == 0 else MUTED
            ends = [found.low, found.high]
            panel.plot(ends, [y, y], color=colour, linewidth=5, alpha=0.3, solid_capstyle="round")
            panel.scatter([found.accuracy], [y], s=52, color=colour, zorder=3, edgecolor="white", linewidth=0.8)
            near = found.accuracy > 0.72
            panel.annotate(
                f"{found.accuracy:.2f}", (found.low if near else found.high, y), (-7 if near else 7, 0),
                textcoords="offset points", ha="right" if near else "left", va="center", fontsize=10.5, color=SOFT,
            )  # fmt: skip
        panel.set(xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5), title=group, xlabel=label)
        panel.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        panel.set_yticks(range(len(names)), names)
        panel.grid(axis="x", color=LINE, linewidth=0.8)
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_color(MUTED)
        panel.set_axisbelow(True)
    title(figure, heading)
    return figure


@styled
def share_chart(
    table: Mapping[str, Mapping[str, float]], *, label: str = "share of the attention", heading: str = ""
) -> Figure:
    """What a whole is made of: `table[name][part]` adds up to 1. The first part is the one that matters."""
    names = list(table)
    parts = list(next(iter(table.values())))
    figure, axes = sheet(9.0, 0.36 * len(names) + 1.2 + (0.35 if heading else 0))
    panel = axes[0, 0]
    left = np.zeros(len(names))
    for part, colour in zip(parts, PARTS, strict=False):
        values = np.array([table[name][part] for name in names])
        panel.barh(names, values, left=left, height=0.74, color=colour, edgecolor="white", linewidth=1, label=part)
        for y, (start, value) in enumerate(zip(left, values, strict=True)):
            if value >= 0.06:
                ink = ink_on(to_rgb(colour))
                panel.text(start + value / 2, y, f"{value:.2f}", ha="center", va="center", fontsize=9.5, color=ink)
        left += values
    panel.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xlabel=label)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    figure.legend(loc="outside lower left", ncols=len(parts), handlelength=1.2)
    title(figure, heading)
    return figure
