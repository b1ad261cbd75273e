"""Every causal result of the book, a file each beside the head atlas; `corelib atlas build` makes them anew.

    ablations/mini-s/scenes.json              heads ranked in scenes, removed in scenes: the primary analysis
    ablations/mini-s/scenes-mean.json         the same heads, their output at its mean; also -resample, -blind
    ablations/mini-s/scenes-on-needle.json    ranked in scenes, removed in another task; -on-arithmetic, where nothing
                                              is to be fetched
    effects/mini-s/scenes-validate.json       every head alone and in company, and what predicts it; also -test
    paths/mini-s/scenes.json                  which looks the answer travels by
    hybrids/mini-s/scenes.json                few heads see everything, all others sinks and a window
    hybrids/mini-s-long/scenes.json           the same with thousands of visual tokens, in the model that learned them
    trades/mini-s-long/scenes.json            what is lost, and how much time is gained, under windows of several widths

    ablation("mini-s", "scenes").conditions["core"]["loss"]

A result that is there, of the model as it is now, is not measured again. What is measured is in `plan.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from corelib import atlas
from corelib.core.errors import BadResults, check_known
from corelib.experiments.ablation import Ablation
from corelib.experiments.head_effects import Effects
from corelib.experiments.hybrid import Hybrid
from corelib.experiments.knockout import Paths
from corelib.experiments.plan import Job, extent, jobs
from corelib.benchmarks.tradeoff import Trade
from corelib.models.vlm import VLM

FOLDER = atlas.HOME
KINDS = {"ablations": Ablation, "effects": Effects, "paths": Paths, "hybrids": Hybrid, "trades": Trade}

Progress = Callable[[int, int], None]


def ablation(model: str, name: str) -> Ablation:
    """A committed ablation by its name, such as `scenes` or `scenes-on-needle`."""
    return _read("ablations", model, name)


def effects(model: str, name: str) -> Effects:
    """Committed effects of all heads, such as `scenes-validate`."""
    return _read("effects", model, name)


def paths(model: str, name: str) -> Paths:
    """Committed paths of a domain."""
    return _read("paths", model, name)


def hybrid(model: str, domain: str) -> Hybrid:
    """A committed result with few heads dense."""
    return _read("hybrids", model, domain)


def trade(model: str, domain: str) -> Trade:
    """A committed trade of accuracy for speed."""
    return _read("trades", model, domain)


def results(kind: str, model: str) -> tuple[str, ...]:
    """The names of a model's committed results of one kind."""
    check_known("kind of result", kind, KINDS)
    return tuple(sorted(path.stem for path in (FOLDER / kind / model).glob("*.json")))


def _read(kind: str, model: str, name: str):
    check_known(f"result of {model} among {kind}", name, results(kind, model))
    return KINDS[kind].load(FOLDER / kind / model / f"{name}.json")


def build(
    vlm: VLM,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    names: Sequence[str] | None = None,
    again: bool = False,
    folder: Path = FOLDER,
    running: Callable[[Job], AbstractContextManager[Progress]] = lambda job: nullcontext(lambda done, total: None),
) -> Iterator[Path]:
    """Measure what is not there yet (or all of it `again`), or only the results of these `names`; goes on where a
    stopped run was. `running` shows a job's progress while it is measured."""
    for one in kinds:
        check_known("kind of result", one, KINDS)
    wanted = [job for job in jobs(vlm, folder) if job.kind in kinds]
    for one in names or ():
        check_known(f"result among {', '.join(kinds)}", one, dict.fromkeys(job.name for job in wanted))
    chosen = [job for job in wanted if names is None or job.name in names]
    return _measured(vlm, chosen, again, folder, running)


def _measured(vlm: VLM, chosen: Sequence[Job], again: bool, folder: Path, running: Callable) -> Iterator[Path]:
    for job in chosen:
        target = folder / job.kind / vlm.file_name / f"{job.name}.json"
        if again or not _is_there(job, target, vlm):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{job.name}.partial")
            with torch.autocast("cpu", torch.bfloat16, enabled=extent(vlm).half), running(job) as progress:
                job.measure(store=partial, progress=progress).save(target)
            shutil.rmtree(partial)
        yield target


def _is_there(job: Job, target: Path, vlm: VLM) -> bool:
    try:
        return KINDS[job.kind].load(target).model["sha256"] == vlm.sha256
    except BadResults:
        return False
