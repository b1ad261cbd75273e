"""A circuit: what flows from which token to which, through which head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from corelib.plots.style import EVIDENCE, INK, MUTED, PAPER, bare, sheet, styled, title

BESIDE = 0.14  # of the middle of a token: what comes in stands left of it, what goes out right


@dataclass(frozen=True)
class Flow:
    """An arrow from the token in one place to that in another, through a head."""

    source: int  # places in the row of tokens
    goal: int
    head: str
    height: float  # of the layer: 0 below, 1 above
    colour: str = INK


@styled
def circuit_chart(
    tokens: Sequence[str], flows: Sequence[Flow], *, evidence: Sequence[int] = (), heading: str = ""
) -> Figure:
    """Tokens stand in a row below; an arrow rises to the height of its head's layer, and says its name. Orange tokens
    are the evidence."""
    figure, axes = sheet(11.2, 4.2 + (0.35 if heading else 0))
    panel = bare(axes[0, 0])
    for place, token in enumerate(tokens):
        edge, ink = (EVIDENCE, EVIDENCE) if place in evidence else (MUTED, INK)
        style: dict[str, Any] = {"boxstyle": "round,pad=0.02", "facecolor": PAPER, "edgecolor": edge, "linewidth": 1.4}
        panel.add_patch(FancyBboxPatch((place - 0.42, -0.16), 0.84, 0.13, **style))
        panel.text(place, -0.095, token, ha="center", va="center", fontsize=11, color=ink)
    for one in flows:
        rise = 0.12 + 0.78 * one.height
        left, right = one.source + BESIDE, one.goal - BESIDE
        corners = [(left, 0.0), (left, rise), (right, rise), (right, 0.0)]
        for start, end, arrow in zip(corners, corners[1:], ("-", "-", "-|>"), strict=False):
            drawn: dict[str, Any] = {"arrowstyle": arrow, "mutation_scale": 12, "color": one.colour, "linewidth": 1.8}
            panel.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **drawn))
        middle = (one.source + one.goal) / 2
        panel.text(middle, rise + 0.015, one.head, ha="center", va="bottom", fontsize=10.5, color=one.colour)
    panel.set(xlim=(-0.6, len(tokens) - 0.4), ylim=(-0.22, 1.06))
    panel.set_ylabel("later layers ↑", color=MUTED)
    title(figure, heading)
    return figure
