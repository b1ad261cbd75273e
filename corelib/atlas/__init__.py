"""The head atlas: the committed results, what loads, plans, builds and judges them.

library     `cell`, `ablation`, …: the committed results by model and name
plan        what is measured of each model, and how much
build       measures it, and writes it
rules       the rules of the report card
claims      the claims of the paper, judged by them
"""

from corelib.atlas.library import (
    CELLS,
    HOME,
    KINDS,
    Cell,
    ablation,
    cell,
    domains,
    effects,
    hybrid,
    knockouts,
    models,
    results,
    tradeoff,
)

__all__ = [
    "CELLS",
    "HOME",
    "KINDS",
    "Cell",
    "ablation",
    "cell",
    "domains",
    "effects",
    "hybrid",
    "knockouts",
    "models",
    "results",
    "tradeoff",
]
