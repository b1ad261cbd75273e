"""Numbers by depth: from the first layer to the last, for models of any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from corelib.core.heads import HeadSet
from corelib.plots.style import (
    EVIDENCE,
    KIND_COLOURS,
    LINE,
    MUTED,
    SOFT,
    SPARE,
    TASK_COLOURS,
    as_table,
    legend_below,
    sheet,
    styled,
    title,
)

if TYPE_CHECKING:
    from corelib.experiments.depth import DepthCurve


@styled
def depth_chart(
    panels: Mapping[str, Mapping[str, DepthCurve]],
    *,
    label: str = "accuracy",
    across: str = "layers up to here see the evidence",
    heading: str = "",
) -> Figure:
    """Accuracy by depth: `panels[title][name]` is a `DepthCurve`; each model's last layer stands at 1."""
    figure, axes = sheet(4.6 * len(panels) + 0.4, 4.3, columns=len(panels), sharey=True)
    for panel, (name, curves) in zip(axes[0], panels.items(), strict=True):
        for number, (what, found) in enumerate(curves.items()):
            colour = {**TASK_COLOURS, **KIND_COLOURS}.get(what, SPARE[number % len(SPARE)])
            layers = np.asarray(found.layers, dtype=float)
            place = layers / layers[-1]
            panel.fill_between(place, found.low, found.high, color=colour, alpha=0.15, linewidth=0)
            panel.plot(place, found.accuracy, "o-", color=colour, markersize=4, linewidth=1.8, label=what)
        panel.set(xlim=(-0.02, 1.02), ylim=(0, 1.02), title=name, xlabel=across)
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["none", "¼", "½", "¾", "all"])
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    axes[0, 0].set_ylabel(label)
    legend_below(figure, axes[0], columns=9)
    title(figure, heading)
    return figure


@styled
def division_chart(
    traits: Mapping[str, ArrayLike], core: HeadSet, *, units: Mapping[str, str] | None = None, heading: str = ""
) -> Figure:
    """What CoRe heads do differently: every head a dot at its layer, one panel a trait; the line is the mean of the
    other heads of a layer. `traits[name]` is a table [layer][head]."""
    columns = len(traits) if len(traits) < 4 else 2
    rows = -(-len(traits) // columns)
    figure, axes = sheet(9.0, 2.7 * rows + 0.9, rows, columns)
    for panel, (name, values) in zip(axes.flat, traits.items(), strict=False):
        table = as_table(values)
        layers, heads = table.shape
        chosen = np.zeros(table.shape, dtype=bool)
        for head in core:
            chosen[head.layer, head.index] = True
        spread = np.linspace(-0.22, 0.22, heads)
        where = np.arange(layers)[:, None] + spread
        panel.scatter(where[~chosen], table[~chosen], s=11, color=MUTED, alpha=0.6, linewidth=0)
        means = [table[layer, ~chosen[layer]].mean() if (~chosen[layer]).any() else np.nan for layer in range(layers)]
        panel.plot(range(layers), means, color=SOFT, linewidth=1.5, label="the rest: mean of the layer")
        panel.scatter(
            where[chosen], table[chosen], s=46, color=EVIDENCE, edgecolor="white", linewidth=0.7, zorder=3,
            label="CoRe heads",
        )  # fmt: skip
        panel.set(xlabel="layer", title=name, ylabel=(units or {}).get(name, ""))
        panel.set_ylim(min(0, table.min()), None)
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    for panel in axes.flat[len(traits) :]:
        panel.set_visible(False)
    legend_below(figure, axes[0, 0])
    title(figure, heading)
    return figure
