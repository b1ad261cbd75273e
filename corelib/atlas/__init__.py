"""The head atlas: the committed results, what loads, plans, builds and judges them.

cell        one model in one domain: the scores of all its heads
by_sample   the scores of every sample behind a cell
kinds       which kinds of results there are
library     `cell`, `ablation`, …: the committed results by model and name
plan        what is measured of each model
ranked      the task and the ranking that every measurement begins with
measures    how each causal result is had
explanations, accelerations   … and the others
trial_cells what is tried where few heads are dense
extents     how much of it
build       measures it, and writes it
rules       the rules of the report card, first round
verdicts    the rules of the second round
reduction_choice  how RAM is read over answers of several tokens: the rule
findings    what one result says, by these rules; acceleration_findings, of few dense heads
second_round  the report card: every claim with its findings
claims      the claims of the paper, judged by them
"""

from corelib.atlas.by_sample import sample_scores
from corelib.atlas.cell import Cell
from corelib.atlas.kinds import KINDS
from corelib.atlas.library import (
    CELLS,
    HOME,
    ablation,
    cell,
    decoys,
    dense_choices,
    domains,
    effects,
    gaze_effects,
    hybrid,
    inheritance,
    knockouts,
    locating,
    long_ranking,
    models,
    published,
    redirection,
    reductions,
    relays,
    rests,
    results,
    sample_curve,
    speed,
    story,
    tradeoff,
    transfer,
    trial,
    variation,
    window_adaptation,
    written_rows,
)

__all__ = [
    "CELLS",
    "HOME",
    "KINDS",
    "Cell",
    "ablation",
    "cell",
    "decoys",
    "dense_choices",
    "domains",
    "effects",
    "gaze_effects",
    "hybrid",
    "inheritance",
    "knockouts",
    "locating",
    "long_ranking",
    "models",
    "published",
    "redirection",
    "reductions",
    "relays",
    "rests",
    "results",
    "sample_curve",
    "sample_scores",
    "speed",
    "story",
    "tradeoff",
    "transfer",
    "trial",
    "variation",
    "window_adaptation",
    "written_rows",
]
