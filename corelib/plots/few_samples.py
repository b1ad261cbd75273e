"""What few labelled samples find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from corelib.plots.style import LINE, TASK_COLOURS, legend_below, sheet, styled, title

if TYPE_CHECKING:
    from corelib.experiments.sample_curve import SampleCurve


@styled
def few_samples_chart(curves: Mapping[str, Mapping[str, SampleCurve]], *, heading: str = "") -> Figure:
    """A column a model, its domains in colour: of the top heads by all samples, the share that few samples find (above;
    shaded: 90 % of the draws); and the answers that move with the gaze of what they find (below)."""
    figure, axes = sheet(11.2, 5.6 + (0.35 if heading else 0), rows=2, columns=len(curves), sharex=True, sharey=True)
    for column, (model, domains) in zip(axes.T, curves.items(), strict=True):
        for domain, one in domains.items():
            for panel, curve in zip(column, (one.found, one.moved), strict=True):
                panel.plot(
                    one.counts,
                    curve.value,
                    color=TASK_COLOURS[domain],
                    linewidth=1.8,
                    marker="o",
                    markersize=4,
                    label=domain,
                )
                panel.fill_between(
                    one.counts, curve.low, curve.high, color=TASK_COLOURS[domain], alpha=0.13, linewidth=0
                )
        column[0].set_title(model)
        column[1].set_xlabel("labelled samples")
        for panel in column:
            panel.set(xscale="log", ylim=(-0.03, 1.03))
            panel.set_xticks((1, 4, 16, 64, 256), ["1", "4", "16", "64", "256"])
            panel.minorticks_off()
            panel.yaxis.set_major_formatter(PercentFormatter(1.0))
            panel.grid(color=LINE, linewidth=0.7)
    axes[0, 0].set_ylabel("of the top heads found")
    axes[1, 0].set_ylabel("answers moved")
    legend_below(figure, list(axes[0]), 3)
    title(figure, heading)
    return figure
