"""Remove the heads on top of a ranking, and see what is lost; then remove others, and compare.

    found = ablate_top(load("mini-s"), task("scenes"), scores, samples=512, draws=200)
    found.conditions["core"]["loss"]        # accuracy lost: value, low, high (paired bootstrap)
    found.percentile["accuracy"]            # how often a layer-matched control loses as much

Heads are ranked on one split and removed on another; the same samples for both are refused. All conditions run on the
same test samples (`answer_sweep.py`), so that losses are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from corelib.analysis import controls
from corelib.analysis.stats import bootstrap_interval, p_value, p_value_of_counts
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import HeadScores, HeadSet
from corelib.core.results import Result, software
from corelib.experiments.ablation_curve import DOSE_DRAWS, AblationCurves, fit_dose_response, sufficiency
from corelib.experiments.answer_sweep import answer_sweep, check_scores, clusters, compute_dtype
from corelib.experiments.evidence import swap_images
from corelib.models.answers import AnswerScores
from corelib.models.vlm import VLM
from corelib.tasks import Task

NULLS = {"layer_matched": controls.layer_matched, "random": controls.random_sets}


@dataclass(frozen=True)
class Ablation(Result):
    """What is lost without the heads on top of a ranking, and without others."""

    schema: ClassVar[str] = "corelib/ablation/1"

    model: dict  # as in head scores
    task: dict  # domain, split, seed, samples, questions a picture; difficulty, where it is not the default
    ranking: dict  # of the head scores: task, metric, fraction
    mode: str
    level: float  # of all intervals
    base: dict  # accuracy, low, high, logprob
    chance: float  # accuracy with another sample's picture
    conditions: dict[str, dict]  # core, next, lowest → heads; accuracy and its interval; logprob; loss of both
    null: dict[str, dict]  # layer_matched, … → sets, and a number a draw: accuracy, logprob
    percentile: dict[str, dict]  # of each null → accuracy, logprob: how often it loses at least as much as core
    dose: dict | None  # doses; the accuracy of each order; D50 of each, and the ratio core to layer-matched
    sufficiency: dict | None  # doses; accuracy if only the first heads of each order see the pictures
    software: dict
    seconds: float


def ablate_top(
    vlm: VLM,
    task: Task,
    scores: HeadScores,
    *,
    fraction: float = 0.05,
    mode: str = "zero",
    draws: int = 200,
    nulls: Sequence[str] = tuple(NULLS),
    norms: Sequence[Sequence[float]] | Callable[[], Sequence[Sequence[float]]] | None = None,
    doses: Sequence[float] | None = None,
    dose_draws: int = DOSE_DRAWS,
    split: str = "test",
    seed: int = 0,
    samples: int = 512,
    questions: int = 4,
    batch_size: int = 16,
    level: float = 0.95,
    same_samples: bool = False,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ablation:
    """The heads on top of `scores` against their controls, on samples that did not rank them.

    Of each picture several `questions` are asked, and intervals resample pictures. `draws` sets are drawn for each of
    the `nulls`, and, with the heads' output `norms` (or a function that measures them), for a norm-matched one.

    `doses` adds the dose curve of the ranking, of its reverse, and of `dose_draws` layer-matched orders; and the
    opposite question, what the first heads suffice for when all *others* do not see the pictures.
    """
    began = time.perf_counter()
    if draws < 1 or dose_draws < 1:
        raise BadInput(f"draws={draws}, dose_draws={dose_draws}: a control needs one draw or more")
    check_scores(vlm, scores, split, seed, same_samples)
    order, size = scores.order(), (vlm.num_layers, vlm.num_heads)
    core = scores.top(fraction)
    named = {"core": core, "next": controls.next_ranked(order, fraction), "lowest": controls.lowest(order, fraction)}
    ways = {name: NULLS[check_known("null", name, NULLS)] for name in nulls}
    drawn = {name: way(core, *size, draws=draws, seed=seed) for name, way in ways.items()}
    if norms is not None:
        table = norms() if callable(norms) else norms
        drawn["norm_matched"] = controls.norm_matched(core, table, draws=draws, seed=seed)
    curves = AblationCurves.draw(order, *size, doses, draws=dose_draws, seed=seed) if doses else None
    every = [HeadSet(), *named.values(), *(one for null in drawn.values() for one in null)]
    every += curves.sets() if curves else ()
    sets = list(dict.fromkeys(every))
    options = {"split": split, "seed": seed, "samples": samples, "questions": questions, "batch_size": batch_size}
    rooms = {name: None if store is None else Path(store) / name for name in ("removed", "kept")}
    steps = samples * (2 if doses else 1)
    found = answer_sweep(
        vlm, task, sets, mode=mode, store=rooms["removed"], progress=lambda done, _: progress(done, steps), **options
    )
    place = {one: number for number, one in enumerate(sets)}
    plain = place[HeadSet()]
    interval = partial(bootstrap_interval, clusters=clusters(samples, questions), level=level, seed=seed)
    base, chance = _proportion(found.correct[plain], interval), _by_chance(vlm, task, split, seed, samples)
    conditions = {name: _condition(found, plain, place[one], one, interval) for name, one in named.items()}
    measured = {name: _null(found, [place[one] for one in null], null) for name, null in drawn.items()}
    plain_logprob = found.logprob[plain].double().mean().item()
    right, lost = found.correct.sum(1).tolist(), conditions["core"]["loss"]["logprob"]["value"]
    percentile = {
        name: {
            "accuracy": p_value_of_counts(right[place[core]], [right[place[one]] for one in drawn[name]]),
            "logprob": p_value(lost, plain_logprob - np.array(null["logprob"])),
        }
        for name, null in measured.items()
    }
    kept = None
    if curves:
        kept = sufficiency(
            vlm, task, curves, store=rooms["kept"], progress=lambda done, _: progress(samples + done, steps), **options
        )
    return Ablation(
        model=vlm.facts,
        task={**task.facts, "split": split, "seed": seed, "samples": samples, "questions": questions},
        ranking={"task": scores.task, "metric": scores.metric, "fraction": fraction},
        mode=mode,
        level=level,
        base={**base, "logprob": plain_logprob},
        chance=chance,
        conditions=conditions,
        null=measured,
        percentile=percentile,
        dose=fit_dose_response(found, place, curves, chance, interval) if curves else None,
        sufficiency=kept,
        software={**software(), "precision": compute_dtype(vlm)},
        seconds=round(time.perf_counter() - began, 2),
    )


def _proportion(marks: Bool[Tensor, " sample"], interval: Callable) -> dict[str, float]:
    values = marks.double().numpy()
    low, high = interval(values)
    return {"accuracy": float(values.mean()), "low": float(low), "high": float(high)}


def _by_chance(vlm: VLM, task: Task, split: str, seed: int, samples: int) -> float:
    """Accuracy with another sample's pictures."""
    right = [vlm.answer(vlm.encode(swap_images(drawn))).correct for drawn in task.batches(split, seed, samples, 64)]
    return float(torch.cat(right).float().mean())


def _condition(found: AnswerScores, plain: int, mine: int, heads: HeadSet, interval: Callable) -> dict:
    loss = {}
    for name in ("correct", "logprob"):
        values = getattr(found, name).double().numpy()
        paired = values[plain] - values[mine]
        low, high = interval(paired)
        loss[{"correct": "accuracy"}.get(name, name)] = {
            "value": float(paired.mean()),
            "low": float(low),
            "high": float(high),
        }
    return {
        "heads": heads.to_json(),
        **_proportion(found.correct[mine], interval),
        "logprob": found.logprob[mine].double().mean().item(),
        "loss": loss,
    }


def _null(found: AnswerScores, places: list[int], sets: list[HeadSet]) -> dict:
    return {
        "sets": [one.to_json() for one in sets],
        "accuracy": found.correct[places].double().mean(1).tolist(),
        "logprob": found.logprob[places].double().mean(1).tolist(),
    }
