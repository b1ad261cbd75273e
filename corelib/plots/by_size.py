"""One effect in models of several sizes: by how many heads they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from corelib.core.values import Estimate
from corelib.plots.style import LINE, MUTED, SOFT, TASK_COLOURS, legend_below, sheet, styled, title

ENDS = ("value", "low", "high")
WIDTH = 0.035  # of the way between models, on the logarithmic axis: how far domains stand apart


@dataclass(frozen=True)
class Sized:
    """An effect in one model and domain."""

    domain: str
    heads: int  # of the model
    effect: Estimate


@dataclass(frozen=True)
class Claimed:
    """One claim: its effects, and the limit that its rule sets."""

    effects: Sequence[Sized]
    limit: float
    above: bool  # must the effect be above the limit?


@styled
def claims_by_size(claims: Mapping[str, Claimed], *, heading: str = "", columns: int = 3) -> Figure:
    """A panel for each claim: every model and domain with its interval, by the model's number of heads. The shaded side
    of the dashed line is the one that the rule asks for."""
    rows = -(-len(claims) // columns)
    figure, axes = sheet(3.7 * columns, 3.1 * rows + 0.5 + (0.35 if heading else 0), rows=rows, columns=columns)
    for panel in axes.flat[len(claims) :]:
        panel.set_axis_off()
    for panel, (name, claim) in zip(axes.flat, claims.items(), strict=False):
        sizes = sorted({one.heads for one in claim.effects})
        top = max(1.0, *(one.effect.high for one in claim.effects))
        edge = (claim.limit, top + 0.05) if claim.above else (-0.05, claim.limit)
        panel.axhspan(*edge, color=MUTED, alpha=0.10, linewidth=0)
        panel.axhline(claim.limit, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        for place, domain in enumerate(TASK_COLOURS):
            mine = [one for one in claim.effects if one.domain == domain]
            if not mine:
                continue
            x = [one.heads * (sizes[-1] / sizes[0]) ** (WIDTH * (place - 1)) for one in mine]
            value, low, high = (np.array([getattr(one.effect, end) for one in mine]) for end in ENDS)
            ends, colour = np.maximum([value - low, high - value], 0), TASK_COLOURS[domain]
            panel.errorbar(x, value, ends, fmt="o", color=colour, markersize=5.5, linewidth=1.2, label=domain)
        panel.set(title=name, xscale="log", ylim=(-0.05, top + 0.05), xlim=(sizes[0] / 1.3, sizes[-1] * 1.3))
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    for panel in axes[-1]:
        panel.set_xlabel("heads of the model")
    legend_below(figure, list(axes.flat[: len(claims)]), 3)
    title(figure, heading)
    return figure
