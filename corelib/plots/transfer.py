"""Heads ranked in one task and tested in another: what they do there, as tables of colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import seaborn
from matplotlib.figure import Figure

from corelib.plots.style import HEAT, sheet, styled, title

if TYPE_CHECKING:
    from corelib.experiments.redirection_result import Redirection
    from corelib.experiments.transfer import Transfer

Tested = Mapping[str, "Transfer"]  # by the task that tests
Moved = Mapping[tuple[str, str], "Redirection"]  # by the tasks that ranked, and that test


@styled
def transfer_chart(tested: Tested, moved: Moved, *, heading: str = "") -> Figure:
    """Three tables, ranked on (down) × tested on (across): of the answers, the share that follows the moved gaze of the
    top heads; of the accuracy, the shares that are lost without these heads, and kept with these alone."""
    names = list(tested)
    pairs = [(ranked, test) for ranked in names for test in names]
    shown = [(tested[test].base.accuracy, tested[test].rankings.get(ranked)) for ranked, test in pairs]
    there = [moved.get(pair) for pair in pairs]
    cells = {
        "answers moved": [np.nan if one is None else one.core.moved.value for one in there],
        "accuracy lost without them": [np.nan if one is None else one.without.loss.value / base for base, one in shown],
        "accuracy kept by them alone": [np.nan if one is None else one.alone.accuracy / base for base, one in shown],
    }
    tables = {name: np.reshape(each, (len(names), len(names))).clip(min=0) for name, each in cells.items()}
    figure, axes = sheet(11.2, 4.1 + (0.35 if heading else 0), columns=len(tables))
    for panel, (name, table) in zip(axes[0], tables.items(), strict=True):
        seaborn.heatmap(
            table,
            ax=panel,
            vmin=0,
            vmax=1,
            cmap=HEAT,
            annot=True,
            fmt=".2f",
            annot_kws={"fontsize": 12},
            cbar=False,
            square=True,
            linewidths=1.5,
            xticklabels=names,
            yticklabels=names if panel is axes[0, 0] else False,
        )
        panel.set(title=name, xlabel="tested on")
        panel.tick_params(length=0)
        panel.set_xticklabels(panel.get_xticklabels(), rotation=30, ha="right")
    axes[0, 0].set_ylabel("ranked on")
    axes[0, 0].set_yticklabels(axes[0, 0].get_yticklabels(), rotation=0)
    title(figure, heading)
    return figure
