"""Do few heads hold most of it? Lorenz curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from corelib.analysis.concentration import gini, lorenz
from corelib.core.heads import top_count
from corelib.plots.style import INK, LINE, MUTED, SOFT, TASK_COLOURS, as_table, sheet, styled, title

DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


@styled
def lorenz_chart(
    panels: Mapping[str, Mapping[str, ArrayLike]], *, fraction: float = 0.05, label: str = "RAM", heading: str = ""
) -> Figure:
    """The share of a score that the lowest heads hold: `panels[title][name]` is a table [layer][head].

    Names of tasks have their colours; others are grey, and dashed. The bands at the right are the top `fraction`, in
    whole heads: 3 of 48 are 6.25 %.
    """
    figure, axes = sheet(4.3 * len(panels) + 0.6, 4.2, columns=len(panels), sharey=True)
    for panel, (name, curves) in zip(axes[0], panels.items(), strict=True):
        panel.plot([0, 1], [0, 1], color=LINE, linewidth=1.2)
        panel.text(0.36, 0.4, "all heads equal", rotation=45, ha="center", va="center", fontsize=10, color=MUTED)
        counts = {np.size(as_table(scores)) for scores in curves.values()}
        for start in {1 - top_count(fraction, count) / count for count in counts}:
            panel.axvspan(start, 1, color=INK, alpha=0.07, linewidth=0)
        others = iter(DASHES[1:] * len(curves))
        for what, scores in curves.items():
            known = what.split(":")[0] in TASK_COLOURS
            style = {"color": TASK_COLOURS[what.split(":")[0]]} if known else {"color": SOFT, "linestyle": next(others)}
            heads, held = lorenz(scores)
            panel.plot(heads, held, linewidth=2, label=f"{what}: Gini {gini(scores):.2f}", **style)
        panel.set(xlim=(0, 1), ylim=(0, 1), title=name, xlabel="share of heads, the lowest first")
        panel.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        panel.set_yticks([0, 0.5, 1], ["0", "½", "1"])
        panel.grid(color=LINE, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.legend(loc="upper left")
    axes[0, 0].set_ylabel(f"share of all {label} they hold")
    title(figure, heading)
    return figure
