"""A training run: loss and accuracy of every task, step by step; and what became of the heads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from corelib.plots.style import (
    EVIDENCE,
    HEAT,
    INK,
    LINE,
    MUTED,
    PAPER,
    SPARE,
    TASK_COLOURS,
    as_table,
    colour_bar,
    legend_below,
    sheet,
    styled,
    title,
)

LEAST = 1e-3  # nats: a loss below it is zero for our purpose


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """A running mean that starts with what there is."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    means: np.ndarray = (total[ends] - total[starts]) / (ends - starts)
    return means


@styled
def draw_training(log: Sequence[Mapping[str, Any]], *, width: int = 25, heading: str = "") -> Figure:
    """Loss and training accuracy (running means), and accuracy on `validate` at the default difficulty (dots).

    The curriculum makes a task harder when its accuracy is high, so training accuracy falls back at each rung. A task's
    curve begins where the curriculum takes it up. Thin upright lines: another stage of the curriculum begins.
    """
    figure, axes = sheet(10.0, 3.8, columns=2)
    left, right = axes[0]
    for name, colour in TASK_COLOURS.items():
        mine = [entry for entry in log if name in entry]
        if not mine:
            continue
        steps = np.array([entry["step"] for entry in mine])
        loss, accuracy = (np.array([entry[name][key] for entry in mine]) for key in ("loss", "accuracy"))
        left.plot(steps, _smooth(loss, width), color=colour, linewidth=1.6, label=name)
        right.plot(steps, _smooth(accuracy, width), color=colour, linewidth=1.2, alpha=0.55)
        tested = [(entry["step"], entry["validate"][name]) for entry in log if "validate" in entry]
        if tested:
            right.plot(*zip(*tested, strict=True), "o-", color=colour, markersize=4, linewidth=1.6, label=name)
    left.set(xlabel="step", ylabel="loss (nats)", yscale="log", ylim=(max(LEAST, left.get_ylim()[0]), None))
    right.set(xlabel="step", ylabel="accuracy", ylim=(0, 1.02))
    right.set_title("thin: training · dots: validate", loc="right", color=MUTED, fontsize="medium")
    left.legend(loc="lower left")
    stages = [now["step"] for before, now in itertools.pairwise(log) if now["stage"] != before["stage"]]
    for panel in (left, right):
        for step in stages:
            panel.axvline(step, color=LINE, linewidth=0.9, zorder=0)
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
    title(figure, heading or "A training run")
    return figure


@styled
def draw_formation(
    steps: Sequence[int],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    label: str = "",
    heading: str = "",
) -> Figure:
    """What became of something over training: `panels[title][name]` is a number a step. The steps are log-spaced; the
    first, step 0, stands at the left edge."""
    place = np.maximum(np.asarray(steps, dtype=float), steps[1] / 2)
    columns = len(panels) if len(panels) < 4 else 2
    rows = -(-len(panels) // columns)
    figure, axes = sheet((3.6 if columns == 3 else 5.0) * columns, 3.7 * rows + 0.2, rows, columns)
    alike = len(panels) > 2 and len({tuple(curves) for curves in panels.values()}) == 1  # then one legend names all
    for panel, (name, curves) in zip(axes.flat, panels.items(), strict=False):
        for number, (what, values) in enumerate(curves.items()):
            colour = TASK_COLOURS.get(what.split(":")[0], SPARE[number % len(SPARE)])
            panel.plot(place, values, "o-", color=colour, markersize=3.5, linewidth=1.8, label=what)
        lowest = min(0.0, *(min(values) for values in curves.values()))
        panel.set(xscale="log", xlabel="training step", title=name, ylim=(1.05 * lowest, None))
        panel.set_xticks([place[0], *(10**k for k in range(1, 5) if steps[1] <= 10**k <= steps[-1])])
        panel.set_xticklabels(["0", *(f"{t:g}" for t in panel.get_xticks()[1:])])
        panel.minorticks_off()
        panel.grid(axis="y", color=LINE, linewidth=0.7)
        panel.set_axisbelow(True)
        if not alike:
            panel.legend(loc="best")
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    if alike:
        legend_below(figure, axes[0, 0])
    axes[0, 0].set_ylabel(label)
    title(figure, heading)
    return figure


@styled
def formation_map(
    steps: Sequence[int],
    panels: Mapping[str, tuple[ArrayLike, Sequence[float]]],
    *,
    columns: int = 2,
    label: str = "RAM of the best head",
    mark: tuple[float, str] | None = None,
    heading: str = "",
) -> Figure:
    """Where something grows in training: `panels[title]` is a table [layer][step] (a shade), and the accuracy at each
    step (the line). The deepest layer is on top; the steps are log-spaced, one column each. `mark` is a step and what
    happened there: a dashed line."""
    tables = {name: as_table(table) for name, (table, _) in panels.items()}
    layers = len(next(iter(tables.values())))
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    wide = 3.6 if columns == 3 else 5.2
    figure, axes = sheet(wide * columns + 0.9, (0.26 * layers + 0.75) * rows + 0.8, rows, columns, sharex=True)
    scale = Normalize(0, max(table.max() for table in tables.values()))
    for panel, (name, (_, accuracy)) in zip(axes.flat, panels.items(), strict=False):
        panel.imshow(tables[name], cmap=HEAT, norm=scale, aspect="auto", interpolation="nearest", origin="lower")
        panel.set_yticks(range(0, layers, 1 if layers < 9 else 3))
        panel.tick_params(length=0)
        if mark is not None:
            at = float(np.interp(mark[0], steps, range(len(steps))))
            panel.axvline(at, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
        line = panel.twinx()
        line.plot(range(len(steps)), accuracy, color=PAPER, linewidth=4.2)
        line.plot(range(len(steps)), accuracy, color=EVIDENCE, linewidth=2)
        line.set(ylim=(0, 1.04), yticks=[0, 0.5, 1])
        line.tick_params(length=0, labelcolor=EVIDENCE, labelright=panel.get_subplotspec().is_last_col())
        for spine in (*panel.spines.values(), *line.spines.values()):
            spine.set_visible(False)
        panel.set_title(name)
    for spare in axes.flat[len(panels) :]:
        spare.set_visible(False)
    chosen = range(0, len(steps), max(1, len(steps) // (4 if columns == 3 else 6)))
    axes[-1, 0].set_xticks(chosen, [str(steps[k]) for k in chosen])
    figure.supylabel("layer", fontsize=12)
    said = "" if mark is None else f"; dashed, step {mark[0]:g}: {mark[1]}"
    figure.supxlabel(f"training step (orange: accuracy{said})", fontsize=12)
    colour_bar(figure, list(axes.flat), scale, HEAT, label, shrink=0.7, aspect=24, pad=0.03)
    title(figure, heading)
    return figure
