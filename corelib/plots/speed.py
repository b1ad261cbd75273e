"""Seconds and bytes by length: what hybrid attention saves, against what accuracy, and what reading RAM costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from corelib.plots.style import (
    ATTENTION,
    DEPTH,
    EVIDENCE,
    INK,
    LINE,
    MUTED,
    PAPER,
    SOFT,
    legend_below,
    sheet,
    styled,
    title,
)

if TYPE_CHECKING:
    from corelib.benchmarks.record_cost import CostAt
    from corelib.benchmarks.speed import SpeedAt
    from corelib.benchmarks.tradeoff import Point

SPANS = {"attention": (EVIDENCE, "attention"), "prefill": (ATTENTION, "prefill"), "first": (INK, "first token")}

COSTS = {
    "plain": (SOFT, "a plain pass"),
    "record": (EVIDENCE, "the same, and RAM beside it"),
    "eager": (ATTENTION, "attention written out, as published"),
}


@styled
def speed_chart(panels: Mapping[str, Sequence[SpeedAt]], *, heading: str = "") -> Figure:
    """Speed-ups by length: `panels[title]` is the `lengths` of a bench file. Dashed: what counting keys promises."""
    figure, axes = sheet(4.3 * len(panels) + 0.4, 4.1 + (0.35 if heading else 0), columns=len(panels), sharey=True)
    for panel, (name, rows) in zip(axes[0], panels.items(), strict=True):
        tokens = [row.tokens for row in rows]
        for what, (colour, text) in SPANS.items():
            times = [one for row in rows if (one := getattr(row, what)) is not None]
            if len(times) < len(rows):
                continue
            low = [one.dense.least / one.hybrid.most for one in times]
            high = [one.dense.most / one.hybrid.least for one in times]
            panel.fill_between(tokens, low, high, color=colour, alpha=0.15, linewidth=0)
            panel.plot(tokens, [one.speedup for one in times], "o-", color=colour, linewidth=2, label=text)
            ideal = [one.ideal for one in times]
            panel.plot(tokens, ideal, color=colour, linestyle=(0, (4, 2)), linewidth=1.2, label=f"{text}, by counting")
        panel.axhline(1, color=SOFT, linewidth=1)
        panel.set(title=name)
        _lengths(panel, tokens)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        panel.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}×" if value in (2, 3, 5) else ""))
    axes[0, 0].set_ylabel("times as fast as dense")
    legend_below(figure, axes[0, 0])
    title(figure, heading)
    return figure


@styled
def tradeoff_chart(panels: Mapping[str, tuple[float, Sequence[Point]]], *, heading: str = "") -> Figure:
    """Accuracy by speed: `panels[title]` is the accuracy with all heads dense, and the `points` of a trade file. A line
    a window, which joins shares of heads that stay dense: the more of them, the larger the dot."""
    figure, axes = sheet(4.6 * len(panels) + 0.4, 4.7 + (0.35 if heading else 0), columns=len(panels), sharey=True)
    for panel, (name, (base, points)) in zip(axes[0], panels.items(), strict=True):
        widths, doses = (sorted({getattr(point, what) for point in points}) for what in ("width", "dose"))
        size = {dose: 3.0 + 7.0 * place / max(1, len(doses) - 1) for place, dose in enumerate(doses)}
        panel.axhline(base, color=SOFT, linewidth=1, linestyle=(0, (5, 3)), label="all dense")
        panel.axvline(1, color=SOFT, linewidth=1)
        for place, width in enumerate(widths):
            mine = sorted((point for point in points if point.width == width), key=lambda point: point.dose)
            speed, value = [one.prefill.speedup for one in mine], np.array([one.accuracy for one in mine])
            ends = [value - [one.low for one in mine], [one.high for one in mine] - value]
            colour = DEPTH((place + 1) / len(widths))
            panel.errorbar(speed, value, ends, fmt="-", color=colour, linewidth=1.5, elinewidth=1)
            for x, y, one in zip(speed, value, mine, strict=True):
                panel.plot(x, y, "o", color=colour, markersize=size[one.dose], markeredgecolor=PAPER)
            panel.plot([], [], "-", color=colour, linewidth=3, label=f"window of {width:,}")
        for dose in doses:
            panel.plot([], [], "o", color=MUTED, markersize=size[dose], label=f"{dose:.0%} of the heads dense")
        panel.set(title=name, ylim=(0, 1.03), xlabel="prefill, times as fast as dense")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    axes[0, 0].set_ylabel("accuracy")
    legend_below(figure, axes[0, 0])
    title(figure, heading)
    return figure


@styled
def cost_chart(rows: Sequence[CostAt], *, heading: str = "") -> Figure:
    """What reading RAM costs by length: the `lengths` of a cost file, seconds on the left, bytes on the right. A cross:
    what eager maps would need, where they do not fit."""
    figure, axes = sheet(9.2, 4.1 + (0.35 if heading else 0), columns=2)
    tokens = [row.tokens for row in rows]
    for panel, what, unit in zip(axes[0], ("seconds", "bytes"), (1, 2**30), strict=True):
        for way, (colour, text) in COSTS.items():
            found = [(row.tokens, getattr(getattr(row, way), what, None)) for row in rows]
            known = [(count, value / unit) for count, value in found if value is not None]
            panel.plot(*zip(*known, strict=True), "o-", color=colour, linewidth=2, label=text)
        if what == "bytes":
            found = [(row.tokens, getattr(row.eager, "would_need", None)) for row in rows]
            needs = {count: value / unit for count, value in found if value is not None}
            panel.plot([*needs], [*needs.values()], "x", color=COSTS["eager"][0], markersize=9, label="would need")
        panel.set(title={"seconds": "seconds", "bytes": "memory, GiB"}[what])
        _lengths(panel, tokens)
        panel.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    legend_below(figure, axes[0, 1])
    title(figure, heading)
    return figure


def _lengths(panel: Axes, tokens: Sequence[int]) -> None:
    """Lengths of sequences from left to right; both axes are logarithmic."""
    panel.set(xscale="log", yscale="log", xlabel="tokens")
    panel.set_xticks(tokens, [f"{count // 1024}k" if count >= 1024 else str(count) for count in tokens])
    panel.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    panel.tick_params(axis="x", which="minor", length=0)
    panel.grid(color=LINE, linewidth=0.7)
    panel.set_axisbelow(True)
