"""Scores of attention heads: pure tensor maths on recorded rows, with no model in sight."""

from corelib.metrics.baselines import box_hit, contrastive, copy_hit, copy_paste, output_norm, top_k_evidence
from corelib.metrics.catalogue import DERIVED, DESCRIPTORS, METRICS, PRIMARY, QUANTITIES, LayerReading, Metric, metric
from corelib.metrics.descriptors import audit, entropy, locality
from corelib.metrics.localization import spatial_entropy
from corelib.metrics.ram import (
    chance,
    contrast,
    lift,
    mass,
    null_calibrated,
    ram,
    reduce_rows,
    value_weighted,
    visible_keys,
    visual_share,
)
from corelib.metrics.variants import VARIANTS, Regions, variant

__all__ = [
    "DERIVED",
    "DESCRIPTORS",
    "METRICS",
    "PRIMARY",
    "QUANTITIES",
    "VARIANTS",
    "LayerReading",
    "Metric",
    "Regions",
    "audit",
    "box_hit",
    "chance",
    "contrast",
    "contrastive",
    "copy_hit",
    "copy_paste",
    "entropy",
    "lift",
    "locality",
    "mass",
    "metric",
    "null_calibrated",
    "output_norm",
    "ram",
    "reduce_rows",
    "spatial_entropy",
    "top_k_evidence",
    "value_weighted",
    "variant",
    "visible_keys",
    "visual_share",
]
