"""Figures from results. Every function returns a matplotlib `Figure` and computes nothing but layout.

One palette runs through the book: **blue** is attention, **orange** is the evidence (and the heads that look at it),
green is an anchor, grey is everything else. Figures stand on opaque paper, so they read the same on light and dark
pages. No global state of pyplot is touched.
"""

from corelib.plots.agreement import agreement_map, head_scatter, layer_chart, overlap_chart
from corelib.plots.attention import draw_attention, draw_attention_map, draw_located
from corelib.plots.by_size import Claimed, Sized, claims_by_size
from corelib.plots.causal import cliff_chart, dose_chart, null_chart, path_chart
from corelib.plots.charts import accuracy_chart, ranked_curve, share_chart
from corelib.plots.circuit import Flow, circuit_chart
from corelib.plots.depth import depth_chart, division_chart
from corelib.plots.effects import effect_scatter, prediction_chart
from corelib.plots.few_samples import few_samples_chart
from corelib.plots.hybrid import hybrid_chart, trial_panel, window_chart
from corelib.plots.inheritance import inheritance_chart
from corelib.plots.locating import pointing_chart
from corelib.plots.maps import head_map, row_map
from corelib.plots.needle import depth_maps, prompt_chart
from corelib.plots.pictures import draw_sample, draw_tokens
from corelib.plots.published import Spread, spread_chart
from corelib.plots.redirection import redirection_chart
from corelib.plots.sparsity import lorenz_chart
from corelib.plots.speed import cost_chart, speed_chart, tradeoff_chart
from corelib.plots.strip import draw_matrix, draw_strip
from corelib.plots.style import ANCHOR, ATTENTION, EVIDENCE, INK, MUTED, PAPER
from corelib.plots.training import draw_formation, draw_training, formation_map
from corelib.plots.transfer import transfer_chart

__all__ = [
    "ANCHOR",
    "ATTENTION",
    "EVIDENCE",
    "INK",
    "MUTED",
    "PAPER",
    "Claimed",
    "Flow",
    "Sized",
    "Spread",
    "accuracy_chart",
    "agreement_map",
    "circuit_chart",
    "claims_by_size",
    "cliff_chart",
    "cost_chart",
    "depth_chart",
    "depth_maps",
    "division_chart",
    "dose_chart",
    "draw_attention",
    "draw_attention_map",
    "draw_formation",
    "draw_located",
    "draw_matrix",
    "draw_sample",
    "draw_strip",
    "draw_tokens",
    "draw_training",
    "effect_scatter",
    "few_samples_chart",
    "formation_map",
    "head_map",
    "head_scatter",
    "hybrid_chart",
    "inheritance_chart",
    "layer_chart",
    "lorenz_chart",
    "null_chart",
    "overlap_chart",
    "path_chart",
    "pointing_chart",
    "prediction_chart",
    "prompt_chart",
    "ranked_curve",
    "redirection_chart",
    "row_map",
    "share_chart",
    "speed_chart",
    "spread_chart",
    "tradeoff_chart",
    "transfer_chart",
    "trial_panel",
    "window_chart",
]
