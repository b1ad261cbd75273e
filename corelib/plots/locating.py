"""Heads as a pointer: how often each pointer is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from corelib.plots.style import ATTENTION, EVIDENCE, INK, LINE, MUTED, SOFT, legend_below, sheet, styled, title

if TYPE_CHECKING:
    from corelib.experiments.locating_result import Locating

SHOWN = {  # pointer: its colour, marker and name
    "core": (EVIDENCE, "o", "CoRe heads"),
    "all heads": (ATTENTION, "s", "mean of all heads"),
    "last layer": (INK, "D", "heads of the last layer"),
    "centre": (SOFT, "X", "middle of the first picture"),
}


@styled
def pointing_chart(rows: Mapping[str, Locating], *, heading: str = "") -> Figure:
    """One line a model and domain: how often the highest token of a pointer is one of the evidence. Small grey dots are
    sets that are matched by layer and key/value group."""
    figure, axes = sheet(9.0, 0.5 * len(rows) + 1.6 + (0.35 if heading else 0))
    panel, names = axes[0, 0], list(rows)
    dots = {"share": [], "row": []}  # type: dict[str, list[object]]
    for name, found in rows.items():
        dots["share"] += found.controls["matched"]
        dots["row"] += [name] * len(found.controls["matched"])
    sns.stripplot(
        dots, x="share", y="row", order=names, color=MUTED, size=4, alpha=0.6, jitter=0.16, ax=panel,
        label="matched sets", legend=False,
    )  # fmt: skip
    for place, found in enumerate(rows.values()):
        for key, (colour, marker, label) in SHOWN.items():
            point = (found.core if key == "core" else found.others[key]).point
            panel.errorbar(
                [point.value], [place], xerr=[[point.value - point.low], [point.high - point.value]], fmt=marker,
                color=colour, markersize=9 if key == "core" else 6, label=label if not place else "", zorder=3,
            )  # fmt: skip
    panel.set(xlabel="questions to which the pointer is on the evidence", ylabel="", xlim=(-0.02, 1.03))
    panel.xaxis.set_major_formatter(PercentFormatter(1.0))
    panel.grid(axis="x", color=LINE, linewidth=0.7)
    legend_below(figure, panel, 3)
    title(figure, heading)
    return figure
