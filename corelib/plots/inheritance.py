"""Short adaptations of a language model: how it learns with other heads that may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from corelib.plots.style import LINE, SPARE, legend_below, sheet, styled, title

Curves = Mapping[str, Sequence[Sequence[float]]]  # arm → a curve of each seed
DASHES = ("-", "-", (0, (5, 2)), "-", (0, (5, 2)))
COLOURS = ("#1d2733", SPARE[0], SPARE[0], SPARE[1], SPARE[1])


@styled
def inheritance_chart(panels: Mapping[str, Curves], *, every: int, heading: str = "") -> Figure:
    """A panel a task: the share of right answers in training over the steps. A thin line is a seed, a thick one the
    mean of an arm; `every` is how many steps a number stands for."""
    figure, axes = sheet(11.2, 4.0 + (0.35 if heading else 0), columns=len(panels), sharey=True)
    for panel, (name, curves) in zip(axes[0], panels.items(), strict=True):
        for (arm, seeds), colour, dash in zip(curves.items(), COLOURS, DASHES, strict=False):
            table = np.array(seeds)
            steps = every * (np.arange(table.shape[1]) + 0.5)
            for one in table:
                panel.plot(steps, one, color=colour, linewidth=0.7, alpha=0.4, linestyle=dash)
            panel.plot(steps, table.mean(0), color=colour, linewidth=2.2, linestyle=dash, label=arm)
        panel.set(title=name, xlabel="steps", ylim=(-0.03, 1.03))
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panel.grid(axis="y", color=LINE, linewidth=0.7)
    axes[0, 0].set_ylabel("right answers in training")
    legend_below(figure, list(axes[0]), 5)
    title(figure, heading)
    return figure
