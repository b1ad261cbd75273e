"""Every causal result of the book, a file each beside the head atlas; `corelib atlas build` makes them anew.

    ablations/mini-s/scenes.json              heads ranked in scenes, removed in scenes: the primary analysis
    ablations/mini-s/scenes-mean.json         the same heads, their output at its mean; also -resample, -blind
    ablations/mini-s/scenes-on-needle.json    ranked in scenes, removed in another task; -on-arithmetic, where nothing
                                              is to be fetched
    effects/mini-s/scenes-validate.json       every head alone and in company, and what predicts it; also -test
    paths/mini-s/scenes.json                  which looks the answer travels by
    hybrids/mini-s/scenes.json                few heads see everything, all others sinks and a window
    hybrids/mini-s-long/scenes.json           the same with thousands of visual tokens, in the model that learned them

    ablation("mini-s", "scenes").conditions["core"]["loss"]

A result that is there, of the model as it is now, is not measured again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from corelib import atlas, embedded
from corelib.dose import DOSES
from corelib.errors import BadResults, check_known
from corelib.experiments.ablation import Ablation, ablate_top
from corelib.experiments.dosing import DOSE_DRAWS
from corelib.experiments.effects import Effects, measure_effects
from corelib.experiments.hybrid import Hybrid, keep_few_dense
from corelib.experiments.paths import Paths, trace_paths
from corelib.experiments.profiling import profile
from corelib.metrics.catalogue import METRICS
from corelib.tasks import DOMAINS, RETRIEVING, Task, task
from corelib.vlm import VLM

FOLDER = atlas.HOME
KINDS = {"ablations": Ablation, "effects": Effects, "paths": Paths, "hybrids": Hybrid}
MODES = ("mean", "resample", "blind")
NORMS = METRICS["output norm"].key
LONG = {"scenes": {"pictures": 114}, "documents": {"pages": 84}}  # about 4,000 visual tokens

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Extent:
    """How much of a model is measured: the larger it is, the less of it there is time for."""

    samples: int  # of the primary analysis,
    draws: int  # and its layer-matched sets
    elsewhere: tuple[int, int]  # the same, where heads are removed in another task
    traced: int  # samples of the paths
    few: int  # samples of other ways to remove heads, and of the effects of all heads
    window: int  # keys that heads see which are not dense
    hybrid: tuple[int, int]  # samples with few heads dense, and draws of other heads
    controls: tuple[str, ...] = DOMAINS  # the domains that have every control, and twice as many orders of doses
    batch: int = 64
    half: bool = False  # computes in bfloat16


EXTENTS = {  # by the most layers a model may have
    6: Extent(samples=512, draws=200, elsewhere=(512, 200), traced=512, few=256, window=8, hybrid=(512, 10)),
    11: Extent(samples=512, draws=200, elsewhere=(256, 100), traced=512, few=128, window=8, hybrid=(256, 5)),
    999: Extent(
        256, 100, elsewhere=(256, 100), traced=64, few=64, window=16, hybrid=(96, 3),
        controls=("scenes",), batch=16, half=True,
    ),
}


def extent(vlm: VLM) -> Extent:
    """How much of this model is measured."""
    return next(one for most, one in EXTENTS.items() if vlm.layers <= most)


@dataclass(frozen=True)
class Job:
    """One result: its name, and how it is had."""

    kind: str
    name: str
    measure: Callable[..., Ablation | Effects | Paths | Hybrid]  # of `store` and `progress`


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


def results(kind: str, model: str) -> tuple[str, ...]:
    """The names of a model's committed results of one kind."""
    check_known("kind of result", kind, KINDS)
    return tuple(sorted(path.stem for path in (FOLDER / kind / model).glob("*.json")))


def _read(kind: str, model: str, name: str):
    check_known(f"result of {model} among {kind}", name, results(kind, model))
    return KINDS[kind].load(FOLDER / kind / model / f"{name}.json")


def jobs(vlm: VLM, folder: Path = FOLDER) -> Iterator[Job]:
    """What is measured of one model, the primary analysis first; `folder` holds the results that later ones read."""
    size = extent(vlm)
    if is_long(vlm.name):
        for domain in LONG:
            yield Job("hybrids", domain, _narrowing_long(vlm, domain))
        return
    alone = {"norms": False, "nulls": ("layer_matched",)}  # one control
    for domain in DOMAINS:
        controls = {} if domain in size.controls else {**alone, "dose_draws": DOSE_DRAWS // 2}
        options = {"draws": size.draws, "samples": size.samples, "doses": DOSES, **controls}
        yield Job("ablations", domain, _ablating(vlm, domain, domain, **options))
    for domain in DOMAINS:
        yield Job("paths", domain, _tracing(vlm, domain, size.traced))
    samples, draws = size.elsewhere
    for ranked in RETRIEVING:
        for tested in RETRIEVING:
            if ranked != tested or ranked == "needle":
                name = ranked if ranked == tested else f"{ranked}-on-{tested}"
                yield Job("ablations", name, _ablating(vlm, ranked, tested, draws=draws, samples=samples, **alone))
        options = {"draws": 50, "samples": 128, "questions": 1, **alone}  # a sum is a text of its own
        yield Job("ablations", f"{ranked}-on-arithmetic", _ablating(vlm, ranked, "arithmetic", **options))
    for domain in DOMAINS:
        for mode in MODES:
            options = {"mode": mode, "draws": 20, "samples": size.few, **alone}
            yield Job("ablations", f"{domain}-{mode}", _ablating(vlm, domain, domain, **options))
    for split in ("validate", "test"):
        for domain in DOMAINS:
            yield Job("effects", f"{domain}-{split}", _sweeping(vlm, domain, split, size.few, folder))
    for domain in DOMAINS:
        yield Job("hybrids", domain, _narrowing(vlm, domain))


def is_long(name: str) -> bool:
    """Was this model trained to read thousands of visual tokens? Then it is there for nothing else."""
    return name.endswith("-long")


def measured() -> tuple[str, ...]:
    """The embedded models of which everything is measured."""
    return tuple(name for name in embedded.names() if not is_long(name))


def asked(vlm: VLM, domain: str) -> Task:
    """The task that tests heads in a domain. Of clips the bridge is asked for digits alone: its tower states what is
    beside each thing, so that the frame can be told without the evidence (chapter 6)."""
    return task(domain, timed=0.0) if domain == "video" and vlm.name == "bridge" else task(domain)


def _scores(vlm: VLM, domain: str):
    cell = atlas.cell(vlm.name, domain)
    return cell.of_kind("digit") if domain == "video" and vlm.name == "bridge" else cell.scores()


def _ablating(vlm: VLM, ranked: str, tested: str, *, norms: bool = True, **options):
    def measure(**more) -> Ablation:
        table = atlas.cell(vlm.name, ranked).scores(NORMS).scores if norms else None
        return ablate_top(
            vlm, asked(vlm, tested), _scores(vlm, ranked), norms=table, batch=extent(vlm).batch, **options, **more
        )

    return measure


def _tracing(vlm: VLM, domain: str, samples: int):
    return lambda **more: trace_paths(vlm, asked(vlm, domain), samples=samples, **more)


def _sweeping(vlm: VLM, domain: str, split: str, samples: int, folder: Path):
    """On `test`, what was found on `validate` predicts too: how well could any score do?"""

    def measure(**more) -> Effects:
        cell = atlas.cell(vlm.name, domain)
        scores = {one.key: cell.scores(one).scores for one in METRICS.values() if one.key in cell.metrics}
        if split == "test":
            before = Effects.load(folder / "effects" / vlm.name / f"{domain}-validate.json")
            scores |= {"its effect alone": before.alone["value"], "its effect in company": before.company["value"]}
        options = {"split": split, "samples": samples, "batch": extent(vlm).batch}
        return measure_effects(vlm, asked(vlm, domain), scores, **options, **more)

    return measure


def _narrowing(vlm: VLM, domain: str):
    size = extent(vlm)
    samples, draws = size.hybrid
    options = {"width": size.window, "samples": samples, "draws": draws, "batch": size.batch}
    return lambda **more: keep_few_dense(vlm, asked(vlm, domain), _scores(vlm, domain), **options, **more)


def _narrowing_long(vlm: VLM, domain: str):
    """Ranked on few samples as long as those of the test: each is one pass over thousands of tokens."""
    work = task(domain, **LONG[domain])
    options = {"width": 256, "doses": (0.02, 0.05, 0.10, 0.20), "samples": 512, "questions": 16, "draws": 3}
    return lambda **more: keep_few_dense(vlm, work, profile(vlm, work, samples=48, batch=1), **options, **more)


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
        target = folder / job.kind / vlm.name / f"{job.name}.json"
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
