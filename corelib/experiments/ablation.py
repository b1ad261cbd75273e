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
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from corelib import controls
from corelib.dose import Dose, d50, d50_ratio
from corelib.errors import BadInput
from corelib.experiments.answering import outcomes
from corelib.experiments.validity import swap
from corelib.heads import HeadScores, HeadSet, cut
from corelib.results import read_fields, software, write_json
from corelib.resume import Outcomes
from corelib.stats import bootstrap_interval, exceedance, wilson
from corelib.tasks import Task
from corelib.vlm import VLM

SCHEMA = "corelib/ablation/1"
DOSE_DRAWS = 20  # layer-matched orders for a dose curve


@dataclass(frozen=True)
class Ablation:
    """What is lost without the heads on top of a ranking, and without others."""

    model: dict  # as in head scores
    task: dict  # domain, split, seed, samples
    ranking: dict  # of the head scores: task, metric, fraction
    mode: str
    level: float  # of all intervals
    base: dict  # accuracy, low, high, logprob
    chance: float  # accuracy with another sample's picture
    conditions: dict[str, dict]  # core, next, lowest → heads; accuracy and its interval; logprob; loss of both
    null: dict[str, dict]  # layer_matched, … → sets, and a number a draw: accuracy, logprob
    percentile: dict[str, dict]  # of each null → accuracy, logprob: how often it loses at least as much as core
    dose: dict | None  # doses; the accuracy of each order; D50 of each, and the ratio core to layer-matched
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
    norms: Sequence[Sequence[float]] | Callable[[], Sequence[Sequence[float]]] | None = None,
    doses: Sequence[float] | None = None,
    dose_draws: int = DOSE_DRAWS,
    split: str = "test",
    seed: int = 0,
    samples: int = 512,
    batch: int = 16,
    level: float = 0.95,
    same_samples: bool = False,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ablation:
    """The heads on top of `scores` against their controls, on samples that did not rank them.

    `draws` sets are drawn for each null: layer-matched, random, and, with the heads' output `norms` (or a function that
    measures them), norm-matched.
    `doses` adds the dose curve of the ranking, of its reverse, and of `dose_draws` layer-matched orders.
    """
    began = time.perf_counter()
    if draws < 1 or dose_draws < 1:
        raise BadInput(f"draws={draws}, dose_draws={dose_draws}: a control needs one draw or more")
    _check(vlm, scores, split, seed, same_samples)
    order, size = scores.order(), (vlm.layers, vlm.heads)
    core = scores.top(fraction)
    named = {"core": core, "next": controls.next_ranked(order, fraction), "lowest": controls.lowest(order, fraction)}
    nulls = {
        "layer_matched": controls.layer_matched(core, *size, draws=draws, seed=seed),
        "random": controls.random_sets(core, *size, draws=draws, seed=seed),
    }
    if norms is not None:
        table = norms() if callable(norms) else norms
        nulls["norm_matched"] = controls.norm_matched(core, table, draws=draws, seed=seed)
    curves = _curves(order, size, doses or (), dose_draws, seed)
    every = [HeadSet(), *named.values(), *(one for null in nulls.values() for one in null)]
    every += [one for curve in curves.values() for one in curve if one is not None]
    sets = list(dict.fromkeys(every))
    options = {"mode": mode, "split": split, "seed": seed, "samples": samples, "batch": batch}
    found = outcomes(vlm, work, sets, store=store, progress=progress, **options)
    place = {one: number for number, one in enumerate(sets)}
    plain = place[HeadSet()]
    base, chance = _proportion(found.correct[plain], level), _by_chance(vlm, work, split, seed, samples)
    conditions = {name: _condition(found, plain, place[one], one, level, seed) for name, one in named.items()}
    measured = {name: _null(found, [place[one] for one in null], null) for name, null in nulls.items()}
    plain_logprob = found.logprob[plain].double().mean().item()
    lost = {key: conditions["core"]["loss"][key]["value"] for key in ("accuracy", "logprob")}
    percentile = {
        name: {
            "accuracy": exceedance(lost["accuracy"], base["accuracy"] - np.array(null["accuracy"])),
            "logprob": exceedance(lost["logprob"], plain_logprob - np.array(null["logprob"])),
        }
        for name, null in measured.items()
    }
    return Ablation(
        model=vlm.facts,
        task={"domain": work.name, "split": split, "seed": seed, "samples": samples},
        ranking={"task": scores.task, "metric": scores.metric, "fraction": fraction},
        mode=mode,
        level=level,
        base={**base, "logprob": plain_logprob},
        chance=chance,
        conditions=conditions,
        null=measured,
        percentile=percentile,
        dose=_dose_part(found, place, curves, doses, chance, level, seed) if doses else None,
        software=software(),
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


def _proportion(marks: Bool[Tensor, " sample"], level: float) -> dict[str, float]:
    low, high = wilson(int(marks.sum()), len(marks), level)
    return {"accuracy": marks.double().mean().item(), "low": low, "high": high}


def _by_chance(vlm: VLM, work: Task, split: str, seed: int, samples: int) -> float:
    """Accuracy with another sample's pictures."""
    right = [vlm.answer(vlm.encode(swap(drawn))).correct for drawn in work.batches(split, seed, samples, 64)]
    return float(torch.cat(right).float().mean())


def _condition(found: Outcomes, plain: int, mine: int, heads: HeadSet, level: float, seed: int) -> dict:
    loss = {}
    for name in ("correct", "logprob"):
        values = getattr(found, name).double().numpy()
        paired = values[plain] - values[mine]
        low, high = bootstrap_interval(paired, level=level, seed=seed)
        loss[{"correct": "accuracy"}.get(name, name)] = {
            "value": float(paired.mean()),
            "low": float(low),
            "high": float(high),
        }
    return {
        "heads": heads.to_json(),
        **_proportion(found.correct[mine], level),
        "logprob": found.logprob[mine].double().mean().item(),
        "loss": loss,
    }


def _null(found: Outcomes, places: list[int], sets: list[HeadSet]) -> dict:
    return {
        "sets": [one.to_json() for one in sets],
        "accuracy": found.correct[places].double().mean(1).tolist(),
        "logprob": found.logprob[places].double().mean(1).tolist(),
    }


def _dose_part(found, place, curves, doses, chance, level, seed) -> dict:
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
    options = {"level": level, "seed": seed}
    curve = {name: np.array(outcome[name]) for name in ("core", "reverse")}
    table["d50"] = {name: _json(d50(doses, values, base, chance, **options)) for name, values in curve.items()}
    if known:  # doses up to the last that has a disjoint control
        control = np.mean([curve[:known] for curve in drawn], axis=0)
        table["d50"]["layer_matched"] = _json(d50(doses[:known], control, base, chance, **options))
        ratio = d50_ratio(doses[:known], curve["core"][:known], control, base, chance, **options)
        table["ratio"] = _json(ratio)
    return table


def _json(dose: Dose) -> dict:
    """Infinite becomes null: not reached up to `largest`."""
    values = {name: getattr(dose, name) for name in ("value", "low", "high")}
    return {**{name: value if np.isfinite(value) else None for name, value in values.items()}, "largest": dose.largest}
