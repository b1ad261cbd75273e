"""What is measured of each model, and how much: the plan behind the results of `library.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corelib.analysis.dose_response import DOSES
from corelib.atlas import accelerations, explanations, library, measures, trial_cells, verdicts
from corelib.atlas.extents import extent
from corelib.atlas.kinds import Causal
from corelib.atlas.ranked import tested_task
from corelib.core import model_folder
from corelib.core.model_folder import Study
from corelib.models.vlm import VLM
from corelib.tasks import DOMAINS, RETRIEVING, Setting, task
from corelib.tasks.assets import OTHER_FONTS
from corelib.tasks.wording import FORMS

ACROSS = [  # ranked in one task, tested in another; and the text, which has no other place of its own
    (ranked, tested) for ranked in RETRIEVING for tested in RETRIEVING if ranked != tested or ranked == "needle"
]
MODES = ("mean", "resample", "knockout")
FEWER: dict[str, Any] = {"norms": False, "nulls": ("kv_matched", "random"), "dose_draws": 4}
KINDS_APART = {  # of question: what asks for this kind alone
    "scenes": {"attribute": {"relational": 0.0}, "relation": {"relational": 1.0}},
    "video": {"digit": {"timed": 0.0}, "frame": {"timed": 1.0}},
}

TOLD = {  # heads that are needed and have little RAM, and one that the mean over rows hides: domain, head, kind
    "bridge": (
        ("documents", "L24H4", None),
        ("documents", "L16H2", None),
        ("documents", "L23H3", None),
        ("video", "L19H1", None),
    ),
    "mini-s": (
        ("scenes", "L0H4", "attribute"),
        ("scenes", "L0H7", "attribute"),
        ("documents", "L3H1", None),
    ),
}

VARIED: dict[str, tuple[tuple[str, Mapping[str, Setting]], ...]] = {  # domain: name, difficulty
    "scenes": (("crowded", {"objects": 24}), ("photograph", {"clutter": 1.0})),
    "documents": (("fonts", {"faces": OTHER_FONTS}),),
}
WORDED = tuple(form for form in FORMS if form != "plain")  # a bridge knows the words


@dataclass(frozen=True)
class Job:
    """One result: its name, and how it is had."""

    kind: str
    name: str
    measure: Callable[..., Causal]  # of `seed`, `store` and `progress`
    seed: int = 0  # of its samples, if no other is asked for
    half: bool = False  # a large model computes in bfloat16 on the CPU


def jobs(vlm: VLM, folder: Path = library.HOME) -> Iterator[Job]:
    """What is measured of one model, the primary analysis first; `folder` holds the results that later ones read.

    Redirections and primary ablations are of the second round, and draw its seed; redirections compute in float32.
    """
    yield from (replace(job, half=extent(vlm).half) for job in _other_jobs(vlm, folder))
    if not vlm.study.long_only:
        yield from _redirections(vlm)
        yield from _transfers(vlm)
        yield from _reductions(vlm)
        for domain in DOMAINS:
            yield Job("curves", domain, explanations.few_samples(vlm, domain), seed=explanations.STORIES_SEED)
            yield Job("gaze", domain, explanations.gaze(vlm, domain), seed=explanations.STORIES_SEED)
            yield Job("decoys", domain, explanations.decoyed(vlm, domain), seed=explanations.STORIES_SEED)
            pointing, half = measures.located(vlm, domain), extent(vlm).half
            yield Job("locating", domain, pointing, seed=verdicts.LOCATING, half=half)
            yield Job("written", domain, measures.at_written(vlm, domain))
        yield from _variations(vlm)
    for domain, head, kind in TOLD.get(vlm.name, ()):
        measure, half = explanations.told(vlm, domain, head, kind), extent(vlm).half
        yield Job("stories", f"{domain}-{head}", measure, seed=explanations.STORIES_SEED, half=half)
    half = vlm.study.long_only and extent(vlm).half  # thousands of tokens; short trials compute in float32
    yield from (replace(job, half=half) for job in _trials(vlm, folder))
    if vlm.name == "bridge":
        yield Job("relays", "scenes", explanations.relayed(vlm, "scenes"), seed=explanations.STORIES_SEED)
        yield Job("inheritance", "pictures", explanations.inherited(vlm), seed=1)
        yield Job("written", "recital", measures.at_written(vlm, "recital"))  # where it may write more than the answer


def _trials(vlm: VLM, folder: Path) -> Iterator[Job]:
    """Few heads dense, where heads are many: short prompts in `bridge`, long ones in `bridge-long`; and where they are
    too few, which heads, and what the others see."""
    cells = trial_cells.TRIED.get(vlm.name, ())
    rests = trial_cells.RESTS.get(vlm.name, ())
    lengths = {cell.length for cell in cells} | {length for _, length, *_ in rests}
    for length in sorted(lengths - {""}):
        for domain in trial_cells.LONG_DOMAINS:
            yield Job("rankings", f"{domain}-{length}", accelerations.ranked_at(vlm, domain, length))
    for one in rests:
        measure: Callable[..., Causal] = accelerations.rested(vlm, *one, folder)
        yield Job("rests", "-".join(filter(None, one[:2])), measure, seed=verdicts.TRIAL)
    if vlm.name in trial_cells.CHOSEN:
        length, width, share = trial_cells.CHOSEN[vlm.name]
        for domain in trial_cells.LONG_DOMAINS:
            measure = accelerations.chosen(vlm, domain, length, width, share)
            yield Job("choices", f"{domain}-{length}", measure, seed=verdicts.TRIAL)
    if vlm.name == "mini-s-long":
        yield Job("adaptations", "windows", accelerations.adapted(vlm, "scenes"), seed=1)
    for cell in cells:
        yield Job("trials", cell.name, accelerations.tried(vlm, cell, folder), seed=verdicts.TRIAL)


def _redirections(vlm: VLM) -> Iterator[Job]:
    """Every ranking tested where it ranked, with all details; every kind of question; every ranking in every other
    task."""
    for domain in DOMAINS:
        yield Job("redirections", domain, measures.redirection(vlm, domain), seed=verdicts.SEED)
    for domain, kinds in KINDS_APART.items():
        for kind, difficulty in kinds.items():
            if vlm.study.kind.get(domain, kind) == kind:
                measure = measures.redirected(vlm, domain, task(domain, **difficulty), kind=kind, questions=2)
                yield Job("redirections", f"{domain}-{kind}", measure, seed=verdicts.SEED)
    for ranked, tested in ACROSS:
        measure = measures.redirected(vlm, ranked, tested_task(vlm, tested))
        yield Job("redirections", library.name_across(ranked, tested), measure, seed=verdicts.SEED)


def _transfers(vlm: VLM) -> Iterator[Job]:
    """Every ranking in every task: what is lost without its heads, and what they keep alone."""
    for tested in RETRIEVING:
        yield Job("transfers", tested, measures.transferred(vlm, tested), seed=verdicts.SEED)


def _variations(vlm: VLM) -> Iterator[Job]:
    """Samples that are unusual in one way."""
    ways = [(domain, *way) for domain, named in VARIED.items() for way in named]
    if vlm.name == "bridge":
        ways += [("scenes", form, {"wording": form}) for form in WORDED]
    for domain, name, difficulty in ways:
        measure = explanations.varied(vlm, domain, difficulty)
        yield Job("variations", f"{domain}-{name}", measure, seed=explanations.STORIES_SEED)


def _reductions(vlm: VLM) -> Iterator[Job]:
    """Ways to read RAM: one is chosen on `validate`, and confirmed once, on samples that nothing else has drawn."""
    for domain in DOMAINS:
        yield Job("reductions", f"{domain}-validate", measures.ways(vlm, domain, "validate"), seed=verdicts.SEED)
    yield Job("reductions", "documents-test", measures.ways(vlm, "documents", "test"), seed=verdicts.CONFIRMING)


def _other_jobs(vlm: VLM, folder: Path) -> Iterator[Job]:
    size = extent(vlm)
    if vlm.study.long_only:
        if vlm.name in trial_cells.TRIED:
            return
        for domain in accelerations.LONG:
            yield Job("hybrids", domain, accelerations.hybrid_long(vlm, domain))
        for domain in accelerations.LONG:
            yield Job("tradeoffs", domain, accelerations.tradeoff(vlm, domain))
        return
    alone: dict[str, Any] = {"norms": False, "nulls": ("layer_matched",)}  # one control
    for domain in DOMAINS:
        controls: dict[str, Any] = {} if domain in size.controls else FEWER
        samples = size.of_documents if domain == "documents" and size.of_documents else size.samples
        primary = measures.ablation(vlm, domain, domain, samples, draws=size.draws, doses=DOSES, **controls)
        yield Job("ablations", domain, primary, seed=verdicts.SEED)
    for domain in DOMAINS:
        yield Job("knockouts", domain, measures.knockout(vlm, domain, size.traced))
    samples, draws = size.elsewhere
    for ranked, tested in ACROSS:
        measure = measures.ablation(vlm, ranked, tested, samples, draws=draws, **alone)
        yield Job("ablations", library.name_across(ranked, tested), measure)
    for ranked in RETRIEVING:  # and where nothing is to be fetched: a sum is a text of its own
        measure = measures.ablation(vlm, ranked, "arithmetic", 128, questions=1, draws=50, **alone)
        yield Job("ablations", library.name_across(ranked, "arithmetic"), measure)
    for domain in DOMAINS:
        for mode in MODES:
            measure = measures.ablation(vlm, domain, domain, size.few, mode=mode, draws=20, **alone)
            yield Job("ablations", f"{domain}-{mode}", measure)
    for split in ("validate", "test"):
        for domain in DOMAINS:
            yield Job("effects", f"{domain}-{split}", measures.effects(vlm, domain, split, size.few, folder))
    for domain in DOMAINS:
        yield Job("hybrids", domain, accelerations.hybrid(vlm, domain))


def measured() -> tuple[str, ...]:
    """The bundled models of which everything is measured."""
    return tuple(name for name in model_folder.bundled_names() if not study(name).long_only)


def study(name: str) -> Study:
    """What the book does with a bundled model, as its card says."""
    return Study.of(model_folder.bundled_folder(name))
