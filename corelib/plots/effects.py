"""Which score of heads tells beforehand what is lost without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike

from corelib.core.values import Estimate, Tables
from corelib.plots.naming import name_points
from corelib.plots.style import (
    ATTENTION,
    DEPTH,
    EVIDENCE,
    LINE,
    MUTED,
    SOFT,
    as_table,
    colour_bar,
    sheet,
    styled,
    title,
)


@styled
def prediction_chart(
    panels: Mapping[str, Mapping[str, Estimate | float]],
    *,
    marked: Sequence[str] = (),
    heading: str = "",
) -> Figure:
    """How well each score predicts, one panel a measure: `panels[measure][score]` is an `Estimate`, or a
    number. Scores stand in the order of the first panel, the best on top; `marked` ones are orange."""
    first = next(iter(panels.values()))
    names = sorted(first, key=lambda name: -float(first[name]))
    figure, axes = sheet(9.0, 0.3 * len(names) + 1.4 + (0.35 if heading else 0), columns=len(panels), sharey=True)
    for panel, (measure, found) in zip(axes[0], panels.items(), strict=True):
        for y, name in enumerate(names):
            part, colour = found[name], EVIDENCE if name in marked else ATTENTION
            if isinstance(part, Estimate):
                panel.plot([part.low, part.high], [y, y], color=colour, linewidth=4, alpha=0.3)
            panel.scatter(float(part), y, s=40, color=colour, edgecolor="white", linewidth=0.7, zorder=3)
        panel.axvline(0, color=SOFT, linewidth=0.9)
        panel.set(title=measure, ylim=(len(names) - 0.4, -0.6))
        panel.grid(color=LINE, linewidth=0.7)
        panel.tick_params(axis="y", length=0)
        panel.set_axisbelow(True)
    axes[0, 0].set_yticks(range(len(names)), names)
    title(figure, heading)
    return figure


@styled
def effect_scatter(
    score: ArrayLike,
    effects: Mapping[str, Tables],
    *,
    label: str = "RAM",
    named: int = 4,
    heading: str = "",
) -> Figure:
    """Every head by its score and by what is lost without it, one panel a kind of effect. The shade tells the layer;
    the `named` heads with the largest effect or score carry their names."""
    across = as_table(score)
    layer, scale = np.repeat(np.arange(len(across)), across.shape[1]), Normalize(0, len(across) - 1)
    figure, axes = sheet(4.5 * len(effects) + 0.6, 4.4 + (0.35 if heading else 0), columns=len(effects))
    for panel, (name, found) in zip(axes[0], effects.items(), strict=True):
        up, low, high = (as_table(table) for table in (found.value, found.low, found.high))
        panel.vlines(across, low, high, color=MUTED, linewidth=1.2, alpha=0.5)
        panel.scatter(across, up, c=layer, cmap=DEPTH, norm=scale, s=34, edgecolor="white", linewidth=0.5, zorder=3)
        panel.axhline(0, color=LINE, linewidth=1, zorder=0)
        panel.set_yscale("symlog", linthresh=0.1, linscale=0.6)
        panel.margins(0.08)
        best = {int(k) for table in (across, up) for k in np.argsort(-table.ravel(), kind="stable")[:named]}
        spots = [divmod(place, across.shape[1]) for place in sorted(best)]
        name_points(panel, [(across[at], up[at], "L{}H{}".format(*at)) for at in spots])
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.set(title=name, xlabel=label)
        panel.grid(color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    axes[0, 0].set_ylabel("nats lost without the head")
    colour_bar(figure, list(axes[0]), scale, DEPTH, "layer", shrink=0.9, aspect=26)
    title(figure, heading)
    return figure
