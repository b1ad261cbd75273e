"""What is lost without heads: against other heads, by dose, by rank, and by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from corelib.plots.style import (
    ANCHOR,
    ATTENTION,
    EVIDENCE,
    INK,
    LINE,
    MUTED,
    SOFT,
    SPARE,
    TASK_COLOURS,
    as_table,
    legend_below,
    share_axis,
    sheet,
    styled,
    title,
)

if TYPE_CHECKING:
    from corelib.core.values import Estimate
    from corelib.experiments.knockout import PathCurve


class NullRow(TypedDict):
    """What `null_chart` draws in one line: losses of accuracy."""

    core: Estimate
    next: Estimate
    lowest: Estimate
    null: Sequence[float]  # a draw each
    full: float  # the loss that would leave chance alone


class DosePanel(TypedDict):
    """What `dose_chart` draws in one panel: accuracy by the share of heads."""

    doses: Sequence[float]
    curves: Mapping[str, Sequence[float]]  # core, reverse
    draws: Sequence[Sequence[float | None]]  # a curve each; None where there is no disjoint control
    levels: Mapping[str, float]  # horizontal lines, such as chance


Tested = Literal["core", "next", "lowest"]
SETS: dict[Tested, tuple[str, int, str]] = {  # what is tested: its colour, the size of its dot, its name
    "core": (EVIDENCE, 60, "CoRe heads"),
    "next": (ATTENTION, 36, "next in rank"),
    "lowest": (SOFT, 36, "lowest in rank"),
}
PATH_COLOURS = {
    "evidence → question": "#e08a5a",
    "evidence → answer": "#c4501b",
    "question → answer": ATTENTION,
    "elsewhere → answer": MUTED,
}


@styled
def null_chart(rows: Mapping[str, NullRow], *, label: str = "accuracy that is lost", heading: str = "") -> Figure:
    """One line a model or domain: what is lost without the tested heads, beside what is lost without others.

    Tested are the heads on top of a ranking, the next ones and the lowest ones; the dots above them are other heads of
    the same layers, a draw each.
    """
    figure, axes = sheet(9.0, 0.62 * len(rows) + 1.5 + (0.35 if heading else 0))
    panel = axes[0, 0]
    rng = np.random.default_rng(0)  # of the dots' heights only
    for y, row in enumerate(rows.values()):
        named = (lambda text: text) if not y else (lambda text: "")  # a legend needs each once
        draws = np.asarray(row["null"], dtype=float)
        height = y + 0.14 + 0.22 * (rng.random(len(draws)) - 0.5)
        panel.scatter(draws, height, s=9, color=MUTED, alpha=0.45, linewidth=0, label=named("matched draws"))
        edge = [float(np.quantile(draws, 0.95))] * 2
        panel.plot(edge, [y - 0.02, y + 0.3], color=INK, linewidth=1.6, label=named("their 95th percentile"))
        for which, (colour, size, text) in SETS.items():
            found = row[which]
            panel.plot([found.low, found.high], [y - 0.2] * 2, color=colour, linewidth=4.5, alpha=0.3)
            style = {"s": size, "color": colour, "edgecolor": "white", "linewidth": 0.8, "zorder": 4}
            panel.scatter(found.value, y - 0.2, label=named(text), **style)
        panel.plot([row["full"]] * 2, [y - 0.38, y + 0.38], color=ANCHOR, linewidth=2, label=named("down to chance"))
    panel.axvline(0, color=LINE, linewidth=1, zorder=0)
    panel.set_yticks(range(len(rows)), list(rows))
    panel.set(ylim=(len(rows) - 0.45, -0.55), xlabel=label)
    panel.grid(axis="x", color=LINE, linewidth=0.7)
    panel.tick_params(axis="y", length=0)
    panel.set_axisbelow(True)
    figure.legend(loc="outside lower left", ncols=3, handlelength=1.2)
    title(figure, heading)
    return figure


@styled
def dose_chart(
    panels: Mapping[str, DosePanel],
    *,
    label: str = "accuracy",
    across: str = "heads removed",
    heading: str = "",
) -> Figure:
    """Accuracy against the share of heads that are removed (or kept), in the order of a ranking and in others."""
    colours = {"core": EVIDENCE, "reverse": ATTENTION}
    names = {"core": "highest RAM first", "reverse": "lowest RAM first"}
    figure, axes = sheet(3.3 * len(panels) + 0.5, 3.9 + (0.35 if heading else 0), columns=len(panels), sharey=True)
    for panel, (name, found) in zip(axes[0], panels.items(), strict=True):
        doses = np.asarray(found["doses"], dtype=float)
        draws = np.array([[np.nan if value is None else value for value in curve] for curve in found["draws"]])
        for number, curve in enumerate(draws):
            panel.plot(doses, curve, color=MUTED, linewidth=0.8, alpha=0.45, label="layer-matched" * (not number))
        known = ~np.isnan(draws).all(0)
        panel.plot(doses[known], np.nanmean(draws[:, known], 0), color=INK, linewidth=2, label="layer-matched, mean")
        for which, curve in found["curves"].items():
            panel.plot(
                doses, curve, "o-", color=colours[which], linewidth=2, markersize=4.5, label=names[which], zorder=4
            )
        for (which, level), style in zip(found["levels"].items(), ((0, (5, 3)), (0, (1, 1.5))), strict=False):
            panel.axhline(level, color=SOFT, linewidth=1, linestyle=style, label=which)
        panel.set(title=name, ylim=(0, 1.03))
        share_axis(panel, doses, across, size=9)
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    axes[0, 0].set_ylabel(label)
    legend_below(figure, axes[0], 3)
    title(figure, heading)
    return figure


@styled
def cliff_chart(
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    marks: Mapping[str, Mapping[str, float | None]] | None = None,
    cut: float = 0.05,
    label: str = "RAM",
    heading: str = "",
) -> Figure:
    """A score from the best head down, by the share of heads: `panels[title][name]` is a table [layer][head]. Shaded is
    the top `cut`; a ring stands at the share `marks[title][name]` (such as D50), if there is one."""
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = sheet(3.2 * columns, 2.7 * rows + 0.9, rows=rows, columns=columns, sharex=True, sharey=True)
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    most = max(as_table(table).max() for curves in panels.values() for table in curves.values())
    for panel, (name, curves) in zip(axes.flat, panels.items(), strict=False):
        for number, (what, table) in enumerate(curves.items()):
            colour = TASK_COLOURS.get(what, SPARE[number % len(SPARE)])
            values = np.sort(as_table(table).ravel())[::-1]
            shares = np.arange(1, len(values) + 1) / len(values)
            panel.plot(shares, values, "o-", color=colour, linewidth=1.6, markersize=3, label=what)
            ring = (marks or {}).get(name, {}).get(what)
            if ring is not None:
                height = np.interp(ring, shares, values)
                style = {"facecolor": "none", "edgecolor": colour, "linewidth": 2, "zorder": 5}
                panel.scatter(ring, height, s=130, **style)
        panel.axvspan(1e-3, cut, color=EVIDENCE, alpha=0.09, linewidth=0)
        share_axis(panel, [0.01, 0.05, 0.2, 1.0])
        panel.set(title=name, xlim=(3e-3, 1.1), ylim=(0, 1.05 * most))
        panel.tick_params(axis="x", labelbottom=True)
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    for panel in axes[:, 0]:
        panel.set_ylabel(label)
    legend_below(figure, axes[0, 0], columns=9)
    title(figure, heading)
    return figure


@styled
def path_chart(
    panels: Mapping[str, tuple[Sequence[int], Mapping[str, PathCurve]]],
    *,
    window: int = 1,
    heading: str = "",
) -> Figure:
    """What each cut costs, by the first layer of its window: `panels[title]` is `(first, lost)` as in
    `PathKnockouts`."""
    figure, axes = sheet(3.3 * len(panels) + 0.5, 3.8 + (0.35 if heading else 0), columns=len(panels))
    for panel, (name, (first, lost)) in zip(axes[0], panels.items(), strict=True):
        for path, found in lost.items():
            colour = PATH_COLOURS.get(path, SOFT)
            panel.fill_between(first, found.low, found.high, color=colour, alpha=0.18, linewidth=0)
            panel.plot(first, found.logprob, "o-", color=colour, markersize=4, linewidth=1.9, label=path)
        panel.set(title=name, xlabel="layer" if window == 1 else f"first of {window} layers")
        panel.axhline(0, color=LINE, linewidth=1, zorder=0)
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.set_axisbelow(True)
    axes[0, 0].set_ylabel("nats lost")
    legend_below(figure, axes[0, 0])
    title(figure, heading)
    return figure
