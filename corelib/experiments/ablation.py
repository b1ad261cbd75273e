"""Remove the heads on top of a ranking, and see what is lost; then remove others, and compare.

    found = ablate_top(load("mini-s"), task("scenes"), scores, samples=512, draws=200)
    found.conditions["core"]["loss"]        # accuracy lost: value, low, high (paired bootstrap)
    found.percentile["accuracy"]            # how often a layer-matched control loses as much

Heads are ranked on one split and removed on another; the same samples for both are refused. All conditions run on the
same test samples (`answering.py`), so that losses are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from corelib import controls
from corelib.dose import Dose, d50, d50_ratio
from corelib.errors import BadInput, check_known
from corelib.experiments.answering import clusters, outcomes, precision
from corelib.experiments.validity import swap
from corelib.heads import HeadScores, HeadSet, cut
from corelib.results import read_fields, software, write_json
from corelib.resume import Outcomes
from corelib.stats import bootstrap_interval, exceedance
from corelib.tasks import Task
from corelib.vlm import VLM

SCHEMA = "corelib/ablation/1"
NULLS = {"layer_matched": controls.layer_matched, "random": controls.random_sets}
DOSE_DRAWS = 20  # layer-matched orders for a dose curve,
KEEPING_DRAWS = 5  # and for the curve of what few heads suffice for: there every set is a pass of its own


@dataclass(frozen=True)
class Ablation:
    """What is lost without the heads on top of a ranking, and without others."""

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

    def save(self, path: str | Path) -> Path:
        return write_json(path, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def load(cls, path: str | Path) -> Ablation:
        return cls(**read_fields(path, SCHEMA, [entry.name for entry in fields(cls)]))


def ablate_top(
    vlm: VLM,
    work: Task,
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
    batch: int = 16,
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
    _check(vlm, scores, split, seed, same_samples)
    order, size = scores.order(), (vlm.layers, vlm.heads)
    core = scores.top(fraction)
    named = {"core": core, "next": controls.next_ranked(order, fraction), "lowest": controls.lowest(order, fraction)}
    ways = {name: NULLS[check_known("null", name, NULLS)] for name in nulls}
    drawn = {name: way(core, *size, draws=draws, seed=seed) for name, way in ways.items()}
    if norms is not None:
        table = norms() if callable(norms) else norms
        drawn["norm_matched"] = controls.norm_matched(core, table, draws=draws, seed=seed)
    curves = _curves(order, size, doses or (), dose_draws, seed)
    every = [HeadSet(), *named.values(), *(one for null in drawn.values() for one in null)]
    every += [one for curve in curves.values() for one in curve if one is not None]
    sets = list(dict.fromkeys(every))
    options = {"split": split, "seed": seed, "samples": samples, "questions": questions, "batch": batch}
    rooms = {name: None if store is None else Path(store) / name for name in ("removed", "kept")}
    steps = samples * (2 if doses else 1)
    found = outcomes(
        vlm, work, sets, mode=mode, store=rooms["removed"], progress=lambda done, _: progress(done, steps), **options
    )
    place = {one: number for number, one in enumerate(sets)}
    plain = place[HeadSet()]
    interval = partial(bootstrap_interval, clusters=clusters(samples, questions), level=level, seed=seed)
    base, chance = _proportion(found.correct[plain], interval), _by_chance(vlm, work, split, seed, samples)
    conditions = {name: _condition(found, plain, place[one], one, interval) for name, one in named.items()}
    measured = {name: _null(found, [place[one] for one in null], null) for name, null in drawn.items()}
    plain_logprob = found.logprob[plain].double().mean().item()
    lost = {key: conditions["core"]["loss"][key]["value"] for key in ("accuracy", "logprob")}
    percentile = {
        name: {
            "accuracy": exceedance(lost["accuracy"], base["accuracy"] - np.array(null["accuracy"])),
            "logprob": exceedance(lost["logprob"], plain_logprob - np.array(null["logprob"])),
        }
        for name, null in measured.items()
    }
    keeping = None
    if doses:
        keeping = _sufficiency(
            vlm, work, curves, doses, store=rooms["kept"],
            progress=lambda done, _: progress(samples + done, steps), **options,
        )  # fmt: skip
    return Ablation(
        model=vlm.facts,
        task={**work.facts, "split": split, "seed": seed, "samples": samples, "questions": questions},
        ranking={"task": scores.task, "metric": scores.metric, "fraction": fraction},
        mode=mode,
        level=level,
        base={**base, "logprob": plain_logprob},
        chance=chance,
        conditions=conditions,
        null=measured,
        percentile=percentile,
        dose=_dose_part(found, place, curves, doses, chance, interval) if doses else None,
        sufficiency=keeping,
        software={**software(), "precision": precision()},
        seconds=round(time.perf_counter() - began, 2),
    )


def _check(vlm: VLM, scores: HeadScores, split: str, seed: int, same_samples: bool) -> None:
    theirs, ranked = scores.model, scores.task
    if theirs["sha256"] != vlm.sha256:
        raise BadInput(
            f"the scores are of {theirs['name']} ({theirs['sha256'][:8]}), the model is {vlm.name} ({vlm.sha256[:8]}): "
            "profile this model first"
        )
    if (ranked["split"], ranked["seed"]) == (split, seed) and not same_samples:
        raise BadInput(
            f"the heads were ranked on these samples ({split}, seed {seed}): test on another split, or say that you "
            "mean it (same_samples=True, --same-samples)"
        )


def _curves(order, size, doses, draws, seed) -> dict[str, list[HeadSet | None]]:
    """The sets of each order at each dose; None where there is no disjoint control."""
    if not doses:
        return {}
    counts = [cut(dose, len(order)) for dose in doses]
    curves: dict[str, list[HeadSet | None]] = {
        "core": [HeadSet(order[:count]) for count in counts],
        "reverse": [HeadSet(order[-count:]) for count in counts],
    }
    for number in range(draws):
        drawn = controls.LayerMatchedDoses.draw(order, *size, seed=seed + number)
        curves[f"layer_matched/{number}"] = [drawn.at(count) for count in counts]
    return curves


def _proportion(marks: Bool[Tensor, " sample"], interval: Callable) -> dict[str, float]:
    values = marks.double().numpy()
    low, high = interval(values)
    return {"accuracy": float(values.mean()), "low": float(low), "high": float(high)}


def _by_chance(vlm: VLM, work: Task, split: str, seed: int, samples: int) -> float:
    """Accuracy with another sample's pictures."""
    right = [vlm.answer(vlm.encode(swap(drawn))).correct for drawn in work.batches(split, seed, samples, 64)]
    return float(torch.cat(right).float().mean())


def _condition(found: Outcomes, plain: int, mine: int, heads: HeadSet, interval: Callable) -> dict:
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


def _null(found: Outcomes, places: list[int], sets: list[HeadSet]) -> dict:
    return {
        "sets": [one.to_json() for one in sets],
        "accuracy": found.correct[places].double().mean(1).tolist(),
        "logprob": found.logprob[places].double().mean(1).tolist(),
    }


def _dose_part(found, place, curves, doses, chance, interval) -> dict:
    """The dose curves, and the doses at which half of the way to chance is gone."""
    base = found.correct[place[HeadSet()]].double().numpy()
    outcome = {
        name: [None if one is None else found.correct[place[one]].double().numpy() for one in curve]
        for name, curve in curves.items()
    }
    drawn = [curve for name, curve in outcome.items() if name.startswith("layer_matched")]
    known = next((k for k in range(len(doses)) if any(curve[k] is None for curve in drawn)), len(doses))
    table = {
        "doses": list(doses),
        "accuracy": {name: [float(marks.mean()) for marks in outcome[name]] for name in ("core", "reverse")},
        "layer_matched": [[None if marks is None else float(marks.mean()) for marks in curve] for curve in drawn],
    }
    curve = {name: np.array(outcome[name]) for name in ("core", "reverse")}
    table["d50"] = {name: _json(d50(doses, values, base, chance, interval)) for name, values in curve.items()}
    if known:  # doses up to the last that has a disjoint control
        control = np.mean([curve[:known] for curve in drawn], axis=0)
        table["d50"]["layer_matched"] = _json(d50(doses[:known], control, base, chance, interval))
        ratio = d50_ratio(doses[:known], curve["core"][:known], control, base, chance, interval)
        table["ratio"] = _json(ratio)
    return table


def _sufficiency(vlm, work, curves, doses, **options) -> dict:
    """Accuracy when, after the pictures, only the first heads of each order see them: `kept` of the core order, and of
    layer-matched ones; and when none does."""
    every = HeadSet.all(vlm.layers, vlm.heads)
    orders = {"core": curves["core"]}
    for number in range(KEEPING_DRAWS):
        if (drawn := curves.get(f"layer_matched/{number}")) is not None:
            orders[f"layer_matched/{number}"] = drawn
    sets = list(dict.fromkeys([every, *(every - one for order in orders.values() for one in order if one is not None)]))
    found = outcomes(vlm, work, sets, mode="unseeing", **options)
    accuracy = dict(zip(sets, found.correct.double().mean(1).tolist(), strict=True))
    table = {
        name: [None if one is None else accuracy[every - one] for one in order] for name, order in orders.items()
    }
    core = table.pop("core")
    return {"doses": list(doses), "none": accuracy[every], "core": core, "layer_matched": list(table.values())}


def _json(dose: Dose) -> dict:
    """Infinite becomes null: not reached up to `largest`."""
    values = {name: getattr(dose, name) for name in ("value", "low", "high")}
    return {**{name: value if np.isfinite(value) else None for name, value in values.items()}, "largest": dose.largest}
