"""What is lost without each head, and which score of heads tells it beforehand.

Three answers to "what does a head matter", all with its output at zero, on samples that ranked nothing:

    alone       the loss without this head and no other. Heads back each other up: a lower bound, often near zero
    in company  the loss without it *beyond* what is lost without its company: many random sets of heads are removed,
                    effect(h) = mean loss of the sets that hold h − mean loss of those that do not      [our definition]
    joint       the loss without all heads on top of a score, at several doses: what a ranking is mostly used for

A score predicts well if its ranks go with the first two (Spearman's correlation over all heads), and if the third is
large. Losses are of the answer's log-probability, in nats; the joint ones of accuracy too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from corelib.analysis.stats import bootstrap_interval
from corelib.core.errors import BadInput
from corelib.core.head_scores import ordered
from corelib.core.heads import Head, HeadSet, top_count
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import Curve, Estimate, ModelFacts, Software, Tables, TaskFacts
from corelib.experiments.answer_sweep import Resampling, answer_sweep, check_pictures, compute_dtype
from corelib.experiments.reach import require_reach
from corelib.models.vlm import VLM
from corelib.tasks import Draw

DOSES = (0.02, 0.05, 0.10, 0.20)
COMPANY = 0.10  # the share of heads in a random set
Scores = Sequence[Sequence[float]]  # [layer][head]


@dataclass(frozen=True)
class Plain:
    """The plain model."""

    accuracy: float
    logprob: float


@dataclass(frozen=True)
class JointLoss:
    """What is lost without the heads on top of a score, at each dose."""

    accuracy: Curve
    logprob: Curve


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation of a score with the two kinds of effects."""

    alone: Estimate
    company: Estimate


@dataclass(frozen=True, repr=False)
class HeadEffects(Result):
    """The causal effect of every head of one model in one domain, and how well scores predict it."""

    schema: ClassVar[str] = "corelib/effects/1"

    model: ModelFacts
    task: TaskFacts
    level: float  # of all intervals
    sets: int  # random sets, for the effects in company
    base: Plain
    alone: Tables  # nats lost
    company: Tables  # the same
    doses: tuple[float, ...]
    joint: dict[str, JointLoss]  # by score
    agreement: dict[str, Agreement]  # by score
    software: Software
    seconds: float


def measure_head_effects(
    vlm: VLM,
    draw: Draw,
    scores: Mapping[str, Scores],
    *,
    sets: int = 200,
    batch_size: int = 16,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> HeadEffects:
    """The effects of all heads, and their agreement with `scores`, by name ([layer][head], higher is better).

    Raises: BadInput if there is no score or one has another shape, if there are fewer than two random sets, or if these
    do not hold every head, or if some heads do not reach the evidence.
    """
    began = time.perf_counter()
    every = list(HeadSet.all(vlm.num_layers, vlm.num_heads))
    tables = {name: np.asarray(table, dtype=float) for name, table in scores.items()}
    for name, table in tables.items():
        if table.shape != (vlm.num_layers, vlm.num_heads) or not np.isfinite(table).all():
            raise BadInput(
                f"the score {name!r} has shape {table.shape}: give one finite number for each of the "
                f"{vlm.num_layers} × {vlm.num_heads} heads"
            )
    if not tables or sets < 2:
        raise BadInput(f"{len(tables)} scores, {sets} random sets: give one score or more, and two sets or more")
    check_pictures(draw)
    require_reach(vlm, draw, batch_size)
    company = random_company(every, sets, draw.seed)
    counts = [top_count(dose, len(every)) for dose in DOSES]
    tops = {name: [HeadSet(ordered(table)[:count]) for count in counts] for name, table in tables.items()}
    removed = [HeadSet(), *(HeadSet([head]) for head in every), *company]
    removed = list(dict.fromkeys([*removed, *(one for top in tops.values() for one in top)]))
    found = answer_sweep(vlm, draw, removed, batch_size=batch_size, store=store, progress=progress)
    place = {one: number for number, one in enumerate(removed)}
    answers = {name: getattr(found, name).double().numpy() for name in ("correct", "logprob")}
    lost = {name: (values[0] - values).T for name, values in answers.items()}  # [sample, set]
    interval = partial(bootstrap_interval, clusters=draw.clusters, level=level, seed=draw.seed)
    effects = {
        "alone": lost["logprob"][:, [place[HeadSet([head])] for head in every]],
        "company": lost["logprob"][:, [place[one] for one in company]] @ beyond_company(every, company).T,
    }
    ranks = np.array([rankdata(table) for table in tables.values()])  # [score, head]
    return HeadEffects(
        model=vlm.facts,
        task=draw.facts(questions=draw.questions),
        level=level,
        sets=sets,
        base=Plain(*(float(answers[name][0].mean()) for name in ("correct", "logprob"))),
        **{name: _tables(values, interval, vlm.num_layers) for name, values in effects.items()},
        doses=DOSES,
        joint={name: _joint(lost, [place[one] for one in top], interval) for name, top in tops.items()},
        agreement=_agreement(list(tables), ranks, effects, interval),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def random_company(every: Sequence[Head], sets: int, seed: int) -> list[HeadSet]:
    """Random sets in which all heads occur about equally often: rounds through all of them, in a new order each."""
    rng, size = np.random.default_rng(seed), top_count(COMPANY, len(every))
    found: list[HeadSet] = []
    while len(found) < sets:
        order = rng.permutation(len(every))
        found += [HeadSet(every[k] for k in order[at : at + size]) for at in range(0, len(every) - size + 1, size)]
    return found[:sets]


def beyond_company(every: Sequence[Head], company: Sequence[HeadSet]) -> Float[np.ndarray, "head set"]:
    """Weights that make of the sets' losses each head's effect: mean with it − mean without it.

    Raises: BadInput if a head is in none or in all of the sets.
    """
    member = np.array([[head in one for one in company] for head in every], dtype=float)
    with_it, without = member.sum(1, keepdims=True), (1 - member).sum(1, keepdims=True)
    if not (with_it.all() and without.all()):
        raise BadInput(f"{len(company)} random sets do not hold every head, and leave it out: give more")
    weights: np.ndarray = member / with_it - (1 - member) / without
    return weights


def _tables(values: Float[np.ndarray, "sample head"], interval: Resampling, layers: int) -> Tables:
    """Mean and interval of every head, to four digits."""
    return Tables(
        *(
            tuple(tuple(float(f"{number:.4g}") for number in row) for row in table.reshape(layers, -1))
            for table in (values.mean(0), *interval(values))
        )
    )


def _joint(lost: Mapping[str, Float[np.ndarray, "sample set"]], places: list[int], interval: Resampling) -> JointLoss:
    curves = []
    for name in ("correct", "logprob"):
        mine = lost[name][:, places]
        curves.append(Curve(*(tuple(values.tolist()) for values in (mine.mean(0), *interval(mine)))))
    return JointLoss(*curves)


def _agreement(
    names: list[str], ranks: Float[np.ndarray, "score head"], effects: Mapping[str, np.ndarray], interval: Resampling
) -> dict[str, Agreement]:
    """Spearman's correlation of each score with each kind of effect; the interval is over the samples of the effect."""
    centred = ranks - ranks.mean(1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)  # a score that is constant: 0

    def correlations(effect: Float[np.ndarray, " head"]) -> Float[np.ndarray, " score"]:
        other = rankdata(effect) - (len(effect) + 1) / 2
        found: np.ndarray = centred @ other / max(np.linalg.norm(other), 1e-12)
        return found

    found: dict[str, dict[str, Estimate]] = {name: {} for name in names}
    for kind, values in effects.items():
        low, high = interval(values, statistic=correlations)
        for name, *numbers in zip(names, correlations(values.mean(0)), low, high, strict=True):
            found[name][kind] = Estimate(*map(float, numbers))
    return {name: Agreement(**kinds) for name, kinds in found.items()}
