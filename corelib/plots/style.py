"""One palette, one type size, one sheet of paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

PAPER = "#fbf8f1"  # opaque, so that a figure reads the same on a light and on a dark page
INK, SOFT, MUTED, LINE = "#1d2733", "#4a5668", "#6f7a8c", "#d9d4c7"
EVIDENCE = "#d9730d"  # orange: what should be looked at, and the heads that look at it
ATTENTION = "#2b78b8"  # blue: what is looked at
ANCHOR = "#2e8b57"  # green: what only helps to find the evidence
HEAT = LinearSegmentedColormap.from_list("attention", [PAPER, "#c3dbec", "#6ba9d3", ATTENTION, "#174a78", "#0a2540"])
BALANCE = LinearSegmentedColormap.from_list(  # for scores that can be negative: brown below 0, blue above
    "balance", ["#5a3a1c", "#b08a63", "#e3d3bd", PAPER, "#c3dbec", ATTENTION, "#0a2540"]
)
DEPTH = LinearSegmentedColormap.from_list(  # of a layer, from early to late
    "depth", ["#e9e2cf", "#a8c4d4", "#5a8fb5", "#3d5a8f", "#3a2a5e"]
)
TASK_COLOURS = {
    "scenes": "#c4501b",
    "documents": "#2166ac",
    "video": "#4d8a57",
    "needle": "#8a6db1",
    "recital": "#b0569a",
    "arithmetic": "#8c8577",
}

KIND_COLOURS = {  # of questions: light and dark in their task's hue
    "attribute": "#e08a5a",
    "relation": "#8f3210",
    "field": "#2166ac",
    "digit": "#8fbf97",
    "frame": "#2c5f37",
}
SPARE = ("#c4501b", "#2166ac", "#8c8577", "#8a6db1")  # of curves that are no task

DPI = 75  # notebooks draw at twice that ("retina") and show at this; for a file, give savefig a dpi
STYLE: dict[RcKeyType, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 12,
    "axes.titlesize": 12.5,
    "axes.titlelocation": "left",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.frameon": False,
    "legend.fontsize": 11,
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in the book's style, and leave matplotlib's own settings alone."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return inside


def sheet(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure in inches with a grid of axes, [row, column]. It belongs to nobody: there is nothing to close."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def bare(axes: Axes) -> Axes:
    """No ticks, no frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def share_axis(axes: Axes, ticks: Sequence[float] | np.ndarray, label: str = "", size: float = 11) -> None:
    """Shares of all heads from left to right, on a logarithmic scale, in per cent."""
    axes.set(xscale="log", xlabel=label)
    axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks], fontsize=size)
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.tick_params(axis="x", which="minor", length=0)


def colour_bar(
    figure: Figure, axes: Axes | Iterable[Axes], scale: Normalize, colours: Colormap, label: str, **options: Any
) -> Colorbar:
    """The key to a shade, without a frame, beside some axes; `options` are those of matplotlib's `colorbar`."""
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=axes, **{"pad": 0.02, **options})
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


def legend_below(figure: Figure, panels: Axes | Iterable[Axes], columns: int = 2) -> None:
    """What the lines of one panel, or of several, are called: below the figure, each name once."""
    each = [panels] if isinstance(panels, Axes) else panels
    drawn = {name: line for panel in each for line, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower left", ncols=min(columns, len(drawn)))


def title(figure: Figure, text: str) -> None:
    """One line above everything, at the left."""
    if text:
        figure.suptitle(text, x=0.01, ha="left", fontsize=13.5, fontweight="bold")


def as_table(scores: ArrayLike) -> np.ndarray:
    """[layer, head] from head scores, nested lists, an array or a tensor."""
    return np.asarray(scores, dtype=float)


def ink_on(shade: Sequence[float]) -> str:
    """Black or white, whichever can be read on a colour (r, g, b, …) in [0, 1]."""
    red, green, blue = shade[:3]
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
