"""Scores of attention heads: pure tensor maths on recorded rows, with no model in sight."""

from corelib.metrics.ram import (
    VARIANTS,
    Regions,
    chance,
    contrast,
    lift,
    mass,
    null_calibrated,
    ram,
    reduce_rows,
    value_weighted,
    variant,
    visible_keys,
    visual_share,
)

__all__ = [
    "VARIANTS",
    "Regions",
    "chance",
    "contrast",
    "lift",
    "mass",
    "null_calibrated",
    "ram",
    "reduce_rows",
    "value_weighted",
    "variant",
    "visible_keys",
    "visual_share",
]
