"""Redirection: how many answers go where the gaze goes, by the number of heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from corelib.plots.style import ATTENTION, EVIDENCE, LINE, MUTED, PAPER, SOFT, legend_below, sheet, styled, title

if TYPE_CHECKING:
    from corelib.experiments.redirection_result import Redirection


@styled
def redirection_chart(panels: Mapping[str, Redirection], *, heading: str = "") -> Figure:
    """Of the answers that were right, the share that becomes the other object's, by how many heads were redirected:
    best first, all others together, and the matched sets, a dot each."""
    figure, axes = sheet(3.4 * len(panels) + 0.6, 4.0 + (0.35 if heading else 0), columns=len(panels), sharey=True)
    for panel, (name, found) in zip(axes[0], panels.items(), strict=True):
        doses = sorted(((int(count), one.moved) for count, one in found.doses.items()), key=lambda one: one[0])
        doses = doses or [(len(found.core.heads), found.core.moved)]
        places = [count for count, _ in doses]
        value, low, high = (np.array([getattr(one, end) for _, one in doses]) for end in ("value", "low", "high"))
        panel.fill_between(places, low, high, color=EVIDENCE, alpha=0.18, linewidth=0)
        panel.plot(places, value, "o-", color=EVIDENCE, linewidth=2, markersize=5, label="the first heads by RAM")
        if found.null is not None:
            spread = len(found.core.heads) * np.exp(np.linspace(-0.08, 0.08, len(found.null.moved)))
            panel.plot(
                spread, found.null.moved, ".", color=MUTED, alpha=0.5, markersize=5, label="matched sets of others"
            )
        others, count = found.complement.moved, len(found.complement.heads)
        ends = [[others.value - others.low], [others.high - others.value]]
        panel.errorbar([count], [others.value], ends, fmt="s", color=ATTENTION, markersize=7, label="all other heads")
        panel.set(title=name, xscale="log", ylim=(-0.03, 1.03), xlabel="heads whose gaze is moved")
        ticks = sorted({1, 2, 4, len(found.core.heads), count})
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panel.axvline(len(found.core.heads), color=SOFT, linewidth=0.8, linestyle=(0, (1, 1.5)))
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
        panel.set_facecolor(PAPER)
    axes[0, 0].set_ylabel("answers that become the other object's")
    legend_below(figure, axes[0, 0], 3)
    title(figure, heading)
    return figure
