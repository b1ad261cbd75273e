"""Where in a long prompt the evidence stood, and whether it was found: depth by length, as needle-in-a-haystack tests
are read; and what heads see of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from corelib.core.errors import BadInput
from corelib.plots.style import ATTENTION, EVIDENCE, HEAT, INK, LINE, MUTED, SOFT, sheet, styled, title

if TYPE_CHECKING:
    from corelib.experiments.trial_result import Trial
    from corelib.sparse.window import Window

PANELS = {
    "dense": "all heads dense",
    "core": "CoRe heads dense",
    "matched": "matched heads dense",
    "none": "no head dense",
}


@styled
def depth_maps(
    trials: Mapping[str, Trial], *, panels: Sequence[str] = ("dense", "core", "matched"), heading: str = ""
) -> Figure:
    """Accuracy by the depth at which the evidence stands (0 is the beginning of the prompt, 1 the question) and by
    length, a map for each choice of dense heads. `trials` are named by their length, in order. A cell without a
    question is left blank.

    Raises:
        BadInput: There is no trial, a panel that is none, or trials have other depths.
    """
    if not trials or not panels or any(panel not in PANELS for panel in panels):
        raise BadInput(f"panels={list(panels)}, {len(trials)} trials: give a trial or more, and of {', '.join(PANELS)}")
    depths = [(one.begins, one.ends) for one in next(iter(trials.values())).depths]
    if any([(one.begins, one.ends) for one in trial.depths] != depths for trial in trials.values()):
        raise BadInput("these trials have other depths: give those of one kind")
    rows = [f"{begins:.1f}–{ends:.1f}" for begins, ends in depths]
    figure, axes = sheet(
        0.62 * len(trials) * len(panels) + 2.6, 3.4 + (0.35 if heading else 0), columns=len(panels), sharey=True
    )
    for number, (axis, panel) in enumerate(zip(axes[0], panels, strict=True)):
        table = np.array([[getattr(one, panel) for one in trial.depths] for trial in trials.values()], dtype=float).T
        sns.heatmap(
            table, ax=axis, vmin=0, vmax=1, cmap=HEAT, mask=np.isnan(table), cbar=False, annot=True, fmt=".2f",
            annot_kws={"size": 9.5}, linewidths=1, linecolor="white", xticklabels=list(trials), yticklabels=rows,
        )  # fmt: skip
        axis.set(title=PANELS[panel], xlabel="tokens", ylabel="" if number else "depth of the evidence")
        axis.tick_params(length=0, rotation=0)
    title(figure, heading)
    return figure


@styled
def prompt_chart(
    parts: Sequence[tuple[str, int]], windows: Mapping[str, Window | None], *, evidence: int, heading: str = ""
) -> Figure:
    """What the last row of a prompt sees, a line for each kind of head (None: everything): `parts` are the prompt's
    pieces with their lengths in tokens, such as `("page 1", 64)`; the one numbered `evidence` holds the answer.

    Raises:
        BadInput: There is no such part.
    """
    if not 0 <= evidence < len(parts):
        raise BadInput(f"evidence={evidence}: the prompt has {len(parts)} parts, numbered from 0")
    edges = np.cumsum([0, *(length for _, length in parts)])
    figure, axes = sheet(9.2, 0.9 + 0.62 * (len(windows) + 1) + (0.35 if heading else 0))
    axis = axes[0, 0]
    for number, (name, _) in enumerate(parts):
        mine = EVIDENCE if number == evidence else LINE
        axis.add_patch(
            Rectangle((edges[number], 0.15), edges[number + 1] - edges[number], 0.7, facecolor=mine, edgecolor="white")
        )
        narrow = (edges[number + 1] - edges[number]) * 4 < len(name) * edges[-1] / 25  # the name stands above it
        place = (edges[number] + edges[number + 1]) / 2, 1.15 if narrow else 0.5
        axis.text(*place, name, ha="center", va="center", fontsize=8.5, color=INK)
    for line, (name, window) in enumerate(windows.items(), start=1):
        whole = [(0, int(edges[-1]))]
        spans = (
            whole
            if window is None
            else [(0, window.sinks), (max(window.sinks, int(edges[-1]) - window.width), int(edges[-1]))]
        )
        axis.hlines(-line, 0, edges[-1], color=LINE, linewidth=1, zorder=0)
        for begin, end in spans:
            axis.add_patch(
                Rectangle(
                    (begin, -line - 0.22), end - begin, 0.44, facecolor=ATTENTION if window else SOFT, edgecolor="none"
                )
            )
        axis.text(edges[-1] * 1.01, -line, name, va="center", fontsize=10, color=INK)
    axis.set(xlim=(0, edges[-1] * 1.22), ylim=(-len(windows) - 0.5, 1.4), yticks=[], xlabel="token")
    axis.set_xticks([0, int(edges[evidence]), int(edges[-1])])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(length=0, labelcolor=MUTED)
    title(figure, heading)
    return figure
