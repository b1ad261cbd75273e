"""Our models and those that others measured, on the same axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from corelib.plots.style import LINE, MUTED, SOFT, legend_below, sheet, styled, title


@dataclass(frozen=True)
class Spread:
    """How a score is spread over the heads of one model."""

    name: str
    group: str  # whose measurement, and of what: one colour each
    heads: int
    half_share: float
    depth: float | None = None  # median of the top heads


MARKS = ("o", "s", "D", "^", "v", "P")
COLOURS = ("#d9730d", "#2b78b8", "#1d2733", "#8a6db1", "#4d8a57", "#8c8577")


@styled
def spread_chart(models: Sequence[Spread], *, limit: float, heading: str = "") -> Figure:
    """Left: the share of heads that hold half of the score, by the number of heads; below the dashed line a rule calls
    it sparse. Right: how deep the top heads lie."""
    figure, axes = sheet(11.2, 4.3 + (0.35 if heading else 0), columns=2)
    left, right = axes[0]
    left.axhline(limit, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    for group, colour, mark in zip(dict.fromkeys(one.group for one in models), COLOURS, MARKS, strict=False):
        mine = [one for one in models if one.group == group]
        style = {"color": colour, "marker": mark, "s": 42, "label": group, "zorder": 3}
        left.scatter([one.heads for one in mine], [one.half_share for one in mine], **style)
        deep = [one for one in mine if one.depth is not None]
        right.scatter([one.heads for one in deep], [one.depth for one in deep], **style)
    for panel, label in ((left, "heads that hold half"), (right, "median depth of the top 5 %")):
        panel.set(xscale="log", xlabel="heads that count", ylabel=label)
        panel.grid(color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.set_ylim(0, None)
    right.set_ylim(-0.03, 1.03)
    right.text(0.01, 0.02, "first layer", transform=right.transAxes, color=MUTED, fontsize=10)
    right.text(0.01, 0.95, "last layer", transform=right.transAxes, color=MUTED, fontsize=10)
    legend_below(figure, left, 2)
    title(figure, heading)
    return figure
