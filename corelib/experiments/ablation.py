"""Remove the heads on top of a ranking, and see what is lost; then remove others, and compare.

    found = ablate_top(load("mini-s"), task("scenes"), scores, samples=512, draws=200)
    found.conditions["core"]["loss"]        # accuracy lost: value, low, high (paired bootstrap)
    found.percentile["accuracy"]            # how often a layer-matched control loses as much

Heads are ranked on one split and removed on another; the same samples for both are refused. All conditions run on the
same test samples, so that losses are paired. Every batch of samples is stored as soon as all conditions have run on
it: a stopped run goes on there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from corelib import controls
from corelib.dose import Dose, d50, d50_ratio
from corelib.encoded import KINDS, Encoded
from corelib.errors import BadInput, UnsupportedArchitecture, check_known
from corelib.experiments.validity import swap
from corelib.heads import HeadScores, HeadSet, cut
from corelib.intervene import ablate, blind
from corelib.outputs import exchanged, head_outputs, mean_outputs, spread
from corelib.results import read_fields, software, write_json
from corelib.resume import resume, trace
from corelib.stats import bootstrap_interval, exceedance, wilson
from corelib.store import SampleStore
from corelib.tasks import Task
from corelib.vlm import VLM

SCHEMA = "corelib/ablation/1"
MODES = ("zero", "mean", "resample", "blind", "unseeing")
REFERENCE = 64  # samples of `select`: what a mean output is a mean of
DOSE_DRAWS = 20  # layer-matched orders for a dose curve


@dataclass(frozen=True)
class Outcomes:
    """How samples were answered when each of several sets of heads was ablated."""

    correct: Bool[np.ndarray, "set sample"]
    logprob: Float[np.ndarray, "set sample"]  # nats a token of the answer


def outcomes(
    vlm: VLM,
    work: Task,
    sets: Sequence[HeadSet],
    *,
    mode: str = "zero",
    split: str = "test",
    seed: int = 0,
    samples: int = 512,
    batch: int = 16,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcomes:
    """Answer `samples` samples under each of the `sets` (the empty set is the plain model).

    `mode` says what their heads do: put out nothing (`zero`), their mean at such positions (`mean`, over samples of the
    split `select`), what they put out for another sample of the batch (`resample`); or, after the pictures, see
    nothing of the evidence (`blind`) or of the pictures (`unseeing`).
    """
    check_known("ablation mode", mode, MODES)
    if samples < 2 or batch < 2:
        raise BadInput(f"samples and batch must be 2 or more, got samples={samples}, batch={batch}")
    fingerprint = {"model": vlm.sha256, "task": repr(work), "split": split, "seed": seed, "mode": mode}
    fingerprint["sets"] = [one.to_json() for one in sets]
    kept = SampleStore(store, fingerprint) if store is not None else None
    done = kept.done if kept else set()
    todo = [index for index in range(samples) if index not in done]
    under = _program(vlm, work, sets, mode, seed)
    parts: list[dict[str, torch.Tensor]] = []
    progress(len(done), samples)
    for start in range(0, len(todo), batch):
        indices = todo[start : start + batch]
        encoded = vlm.encode([work.sample(split, seed, index) for index in indices])
        correct, logprob = under(encoded)
        found = {"correct": correct.T.contiguous(), "logprob": logprob.T.contiguous()}  # [sample, set]
        if kept:
            kept.add(indices, found)
        else:
            parts.append(found)
        progress(len(done) + start + len(indices), samples)
    names = ("correct", "logprob")
    whole = kept.load() if kept else {name: torch.cat([part[name] for part in parts]) for name in names}
    return Outcomes(*(whole[name][:samples].T.numpy() for name in names))


def _program(vlm: VLM, work: Task, sets: Sequence[HeadSet], mode: str, seed: int):
    """A function of an encoded batch: `correct` and `logprob`, [set, sample]."""
    if mode == "zero":

        def resumed(encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
            try:
                found = resume(trace(vlm, encoded), sets)
            except UnsupportedArchitecture:
                return _one_by_one(vlm, encoded, [ablate(vlm.model, one) for one in sets])
            return found.correct, found.logprob

        return resumed
    layers = {head.layer for one in sets for head in one}
    means = _means(vlm, work, layers, seed) if mode == "mean" else None

    def whole(encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
        if mode in ("blind", "unseeing"):
            hidden = encoded.evidence if mode == "blind" else encoded.source
            programs = [blind(vlm.model, hidden, encoded.after_image, one) for one in sets]
        elif mode == "mean":
            instead = spread(means, encoded.kinds)
            programs = [ablate(vlm.model, one, instead=instead) for one in sets]
        else:
            with torch.no_grad(), head_outputs(vlm.model, layers) as found:
                vlm.model(**encoded.inputs, use_cache=False)
            instead = exchanged(found) if layers else None
            programs = [ablate(vlm.model, one, instead=instead) for one in sets]
        return _one_by_one(vlm, encoded, programs)

    return whole


def _one_by_one(vlm: VLM, encoded: Encoded, programs: list) -> tuple[torch.Tensor, torch.Tensor]:
    correct, logprob = [], []
    for program in programs:
        with program:
            answers = vlm.answer(encoded)
        correct.append(answers.correct)
        logprob.append(answers.logprob)
    return torch.stack(correct).cpu(), torch.stack(logprob).cpu()


def _means(vlm: VLM, work: Task, layers: set[int], seed: int) -> dict[int, torch.Tensor]:
    def recorded():
        for drawn in work.batches("select", seed, REFERENCE, 16):
            encoded = vlm.encode(drawn)
            with torch.no_grad(), head_outputs(vlm.model, layers) as found:
                vlm.model(**encoded.inputs, use_cache=False)
            yield found, encoded.kinds

    return mean_outputs(recorded(), len(KINDS)) if layers else {}


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
    plain_logprob = float(found.logprob[plain].mean())
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


def _proportion(marks: Bool[np.ndarray, " sample"], level: float) -> dict[str, float]:
    low, high = wilson(int(marks.sum()), len(marks), level)
    return {"accuracy": float(marks.mean()), "low": low, "high": high}


def _by_chance(vlm: VLM, work: Task, split: str, seed: int, samples: int) -> float:
    """Accuracy with another sample's pictures."""
    right = [vlm.answer(vlm.encode(swap(drawn))).correct for drawn in work.batches(split, seed, samples, 64)]
    return float(torch.cat(right).float().mean())


def _condition(found: Outcomes, plain: int, mine: int, heads: HeadSet, level: float, seed: int) -> dict:
    loss = {}
    for name in ("correct", "logprob"):
        values = getattr(found, name).astype(float)
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
        "logprob": float(found.logprob[mine].mean()),
        "loss": loss,
    }


def _null(found: Outcomes, places: list[int], sets: list[HeadSet]) -> dict:
    return {
        "sets": [one.to_json() for one in sets],
        "accuracy": found.correct[places].mean(1).tolist(),
        "logprob": found.logprob[places].mean(1, dtype=np.float64).tolist(),
    }


def _dose_part(found, place, curves, doses, chance, level, seed) -> dict:
    """The dose curves, and the doses at which half of the way to chance is gone."""
    base = found.correct[place[HeadSet()]].astype(float)
    outcome = {
        name: [None if one is None else found.correct[place[one]].astype(float) for one in curve]
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
