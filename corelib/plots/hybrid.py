"""Hybrid attention: which keys a windowed head sees, and what accuracy is kept by how many dense heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from corelib.plots.style import (
    ATTENTION,
    EVIDENCE,
    INK,
    LINE,
    MUTED,
    PAPER,
    SOFT,
    legend_below,
    share_axis,
    sheet,
    styled,
    title,
)
from corelib.sparse.window import Window

if TYPE_CHECKING:
    from matplotlib.typing import LineStyleType

    from corelib.core.values import Accuracy
    from corelib.experiments.trial_result import Trial


class HybridPanel(TypedDict):
    """What `hybrid_chart` draws in one panel: accuracy by the share of heads that stay dense."""

    doses: Sequence[float]
    base: Accuracy  # all dense
    none: Accuracy  # no head dense
    core: Sequence[Accuracy]
    group: NotRequired[Sequence[Accuracy]]
    uniform: Sequence[Accuracy]
    oracle: NotRequired[Sequence[Accuracy]]
    draws: Mapping[str, Sequence[Sequence[float | None]]]  # layer-matched, random: a curve a draw


Baseline = Literal["core", "group", "oracle", "uniform"]
BASELINES: dict[Baseline, tuple[str, LineStyleType, str]] = {  # its colour, its line, its name
    "core": (EVIDENCE, "-", "CoRe heads dense"),
    "group": ("#e9b384", "-", "CoRe heads and those that share their memory"),
    "oracle": (SOFT, (0, (1, 1.5)), "oracle: each row its favourite keys"),
    "uniform": (ATTENTION, (0, (4, 2)), "no head dense, wider windows"),
}


@styled
def window_chart(windows: Mapping[str, Window | None], rows: int, *, block: int = 4, heading: str = "") -> Figure:
    """What heads see of a short sequence, one panel a head (None: everything). Dark: seen; light: computed with its
    block of rows, and masked; bare: never touched. Lines part the blocks."""
    figure, axes = sheet(3.1 * len(windows) + 0.2, 3.7 + (0.35 if heading else 0), columns=len(windows))
    places = torch.arange(rows)
    colours = ListedColormap([PAPER, "#cfe1ee", ATTENTION])
    for panel, (name, window) in zip(axes[0], windows.items(), strict=True):
        seen = places <= places[:, None] if window is None else window.seen(places[:, None], places)
        shade = seen.int() * 2
        for start in range(0, rows, block):
            touched = seen[start : start + block].any(0)
            shade[start : start + block] += (touched & ~seen[start : start + block]).int()
        panel.imshow(shade.numpy(), cmap=colours, vmin=0, vmax=2, interpolation="nearest")
        for edge in range(0, rows + 1):
            strong = edge % block == 0
            panel.axhline(edge - 0.5, color=MUTED if strong else LINE, linewidth=1.1 if strong else 0.5)
            panel.axvline(edge - 0.5, color=LINE, linewidth=0.5)
        panel.set(title=name, xlabel="key", xticks=[0, rows - 1], yticks=[0, rows - 1])
        panel.tick_params(length=0)
    axes[0, 0].set_ylabel("row")
    title(figure, heading)
    return figure


def trial_panel(trial: Trial) -> HybridPanel:
    """What `hybrid_chart` draws of a trial, its shares in order."""
    choices = sorted(trial.choices, key=lambda one: one.dose)

    def curves(what: Literal["matched", "random"]) -> list[list[float | None]]:
        drawn = [getattr(one, what) for one in choices]
        return [[one[k] if k < len(one) else None for one in drawn] for k in range(max(map(len, drawn)))]

    panel = HybridPanel(
        doses=[one.dose for one in choices],
        base=trial.base,
        none=trial.none,
        core=[one.kept for one in choices],
        uniform=[one.uniform.kept for one in choices],
        draws={"layer-matched": curves("matched"), "random": curves("random")},
    )
    best = [one.best_keys for one in choices if one.best_keys is not None]
    if len(best) == len(choices):
        panel["oracle"] = best
    return panel


@styled
def hybrid_chart(panels: Mapping[str, HybridPanel], *, heading: str = "") -> Figure:
    """Accuracy by the share of heads that stay dense, against what else the same number of keys could buy."""
    figure, axes = sheet(3.6 * len(panels) + 0.5, 4.3 + (0.35 if heading else 0), columns=len(panels), sharey=True)
    for panel, (name, found) in zip(axes[0], panels.items(), strict=True):
        doses = np.asarray(found["doses"], dtype=float)
        for what, colour in (("layer-matched", INK), ("random", MUTED)):
            draws = np.array([[np.nan if one is None else one for one in curve] for curve in found["draws"][what]])
            if not draws.size:
                continue
            known = ~np.isnan(draws).all(0)
            for curve in draws:
                panel.plot(doses, curve, ".-", color=colour, linewidth=0.6, markersize=3, alpha=0.3)
            mean = np.nanmean(draws[:, known], 0)
            panel.plot(doses[known], mean, color=colour, linewidth=1.8, label=f"{what} heads dense")
        for what, (colour, style, text) in BASELINES.items():
            if what not in found:
                continue
            value, low, high = (
                np.array([getattr(one, end) for one in found[what]]) for end in ("accuracy", "low", "high")
            )
            panel.fill_between(doses, low, high, color=colour, alpha=0.15, linewidth=0)
            panel.plot(doses, value, marker="o", color=colour, linestyle=style, linewidth=2, markersize=4.5, label=text)
        for level, style, text in ((found["base"], (0, (5, 3)), "all dense"), (found["none"], (0, (1, 1.5)), "none")):
            panel.axhline(level.accuracy, color=SOFT, linewidth=1, linestyle=style, label=text)
        panel.set(title=name, ylim=(0, 1.03))
        share_axis(panel, doses, "heads that stay dense", size=9)
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    axes[0, 0].set_ylabel("accuracy")
    legend_below(figure, axes[0, 0])
    title(figure, heading)
    return figure
