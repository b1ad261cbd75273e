"""What is measured of each model, and how much: the plan behind the results of `library.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from corelib.analysis.dose_response import DOSES
from corelib.atlas import library, verdicts
from corelib.atlas.extents import COMPARED, REDIRECTED, extent
from corelib.benchmarks.tradeoff import Tradeoff, measure_tradeoff
from corelib.core import model_folder
from corelib.core.head_scores import HeadScores
from corelib.core.model_folder import Study
from corelib.experiments.ablation import ablate_top
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.head_effects import HeadEffects, measure_head_effects
from corelib.experiments.hybrid import Hybrid, measure_hybrid
from corelib.experiments.knockout import PathKnockouts, knock_out_paths
from corelib.experiments.redirection import redirect_top
from corelib.experiments.redirection_result import Redirection
from corelib.experiments.reductions import Reductions, compare_reductions
from corelib.experiments.score_heads import score_heads
from corelib.experiments.transfer import Transfer, transfer
from corelib.metrics.catalogue import METRICS
from corelib.models.vlm import VLM
from corelib.tasks import DOMAINS, RETRIEVING, Task, task

MODES = ("mean", "resample", "knockout")
FEWER: dict[str, Any] = {"norms": False, "nulls": ("kv_matched", "random"), "dose_draws": 4}
NORMS = METRICS["output norm"].key
LONG = {"scenes": {"pictures": 114}, "documents": {"pages": 84}}  # about 4,000 visual tokens
KINDS_APART = {  # of question: what asks for this kind alone
    "scenes": {"attribute": {"relational": 0.0}, "relation": {"relational": 1.0}},
    "video": {"digit": {"timed": 0.0}, "frame": {"timed": 1.0}},
}


@dataclass(frozen=True)
class Job:
    """One result: its name, and how it is had."""

    kind: str
    name: str
    measure: Callable[..., library.Causal]  # of `seed`, `store` and `progress`
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


def _redirections(vlm: VLM) -> Iterator[Job]:
    """Every ranking tested where it ranked, with all details; every kind of question; every ranking in every other
    task."""
    for domain in DOMAINS:
        yield Job("redirections", domain, _redirection(vlm, domain), seed=verdicts.SEED)
    for domain, kinds in KINDS_APART.items():
        for kind, difficulty in kinds.items():
            if vlm.study.kind.get(domain, kind) == kind:
                measure = _redirected(vlm, partial(_of_kind, vlm, domain, kind), task(domain, **difficulty), 2)
                yield Job("redirections", f"{domain}-{kind}", measure, seed=verdicts.SEED)
    for ranked in RETRIEVING:
        for tested in RETRIEVING:
            if ranked != tested or ranked == "needle":
                name = ranked if ranked == tested else f"{ranked}-on-{tested}"
                measure = _redirected(vlm, partial(_scores, vlm, ranked), tested_task(vlm, tested), 4)
                yield Job("redirections", name, measure, seed=verdicts.SEED)


def _transfers(vlm: VLM) -> Iterator[Job]:
    """Every ranking in every task: what is lost without its heads, and what they keep alone."""
    for tested in RETRIEVING:
        yield Job("transfers", tested, _transfer(vlm, tested), seed=verdicts.SEED)


def _reductions(vlm: VLM) -> Iterator[Job]:
    """Ways to read RAM: one is chosen on `validate`, and confirmed once, on samples that nothing else has drawn."""
    for domain in DOMAINS:
        yield Job("reductions", f"{domain}-validate", _ways(vlm, domain, "validate"), seed=verdicts.SEED)
    yield Job("reductions", "documents-test", _ways(vlm, "documents", "test"), seed=verdicts.CONFIRMING)


def _other_jobs(vlm: VLM, folder: Path) -> Iterator[Job]:
    size = extent(vlm)
    if vlm.study.long_only:
        for domain in LONG:
            yield Job("hybrids", domain, _hybrid_long(vlm, domain))
        for domain in LONG:
            yield Job("tradeoffs", domain, _tradeoff(vlm, domain))
        return
    alone: dict[str, Any] = {"norms": False, "nulls": ("layer_matched",)}  # one control
    for domain in DOMAINS:
        controls: dict[str, Any] = {} if domain in size.controls else FEWER
        samples = size.of_documents if domain == "documents" and size.of_documents else size.samples
        primary = _ablation(vlm, domain, domain, samples, draws=size.draws, doses=DOSES, **controls)
        yield Job("ablations", domain, primary, seed=verdicts.SEED)
    for domain in DOMAINS:
        yield Job("knockouts", domain, _knockout(vlm, domain, size.traced))
    samples, draws = size.elsewhere
    for ranked in RETRIEVING:
        for tested in RETRIEVING:
            if ranked != tested or ranked == "needle":
                name = ranked if ranked == tested else f"{ranked}-on-{tested}"
                yield Job("ablations", name, _ablation(vlm, ranked, tested, samples, draws=draws, **alone))
        sums = _ablation(vlm, ranked, "arithmetic", 128, questions=1, draws=50, **alone)  # a sum is a text of its own
        yield Job("ablations", f"{ranked}-on-arithmetic", sums)
    for domain in DOMAINS:
        for mode in MODES:
            yield Job(
                "ablations", f"{domain}-{mode}", _ablation(vlm, domain, domain, size.few, mode=mode, draws=20, **alone)
            )
    for split in ("validate", "test"):
        for domain in DOMAINS:
            yield Job("effects", f"{domain}-{split}", _effects(vlm, domain, split, size.few, folder))
    for domain in DOMAINS:
        yield Job("hybrids", domain, _hybrid(vlm, domain))


def measured() -> tuple[str, ...]:
    """The bundled models of which everything is measured."""
    return tuple(name for name in model_folder.bundled_names() if not study(name).long_only)


def study(name: str) -> Study:
    """What the book does with a bundled model, as its card says."""
    return Study.of(model_folder.bundled_folder(name))


def tested_task(vlm: VLM, domain: str) -> Task:
    """The task that tests heads in a domain. Of clips the bridge is asked for digits alone, as its card says: its tower
    states what is beside each thing, so that the frame can be told without the evidence (chapter 6)."""
    return task(domain, **vlm.study.difficulty.get(domain, {}))


def _scores(vlm: VLM, domain: str) -> HeadScores:
    cell, kind = library.cell(vlm.name, domain), vlm.study.kind.get(domain)
    return cell.scores() if kind is None else cell.of_kind(kind)


def _of_kind(vlm: VLM, domain: str, kind: str) -> HeadScores:
    return library.cell(vlm.name, domain).of_kind(kind)


def _ablation(
    vlm: VLM, ranked: str, tested: str, samples: int, *, questions: int = 4, norms: bool = True, **options: Any
) -> Callable[..., Ablation]:
    def measure(seed: int = 0, **more: Any) -> Ablation:
        table = library.cell(vlm.name, ranked).scores(NORMS).values if norms else None
        draw = tested_task(vlm, tested).draw("test", samples=samples, seed=seed, questions=questions)
        size = extent(vlm).batch_size
        return ablate_top(vlm, draw, _scores(vlm, ranked), norms=table, batch_size=size, **options, **more)

    return measure


def _knockout(vlm: VLM, domain: str, samples: int) -> Callable[..., PathKnockouts]:
    def measure(seed: int = 0, **more: Any) -> PathKnockouts:
        return knock_out_paths(vlm, tested_task(vlm, domain).draw("test", samples=samples, seed=seed), **more)

    return measure


def _redirection(vlm: VLM, domain: str) -> Callable[..., Redirection]:
    def measure(seed: int = verdicts.SEED, **more: Any) -> Redirection:
        draw = tested_task(vlm, domain).draw("test", samples=REDIRECTED[domain], seed=seed, questions=4)
        return redirect_top(vlm, draw, _scores(vlm, domain), **more)

    return measure


def _redirected(vlm: VLM, scores: Callable[[], HeadScores], work: Task, questions: int) -> Callable[..., Redirection]:
    """The top heads, all others and matched sets alone, on fewer samples."""

    def measure(seed: int = verdicts.SEED, **more: Any) -> Redirection:
        samples, draws = extent(vlm).redirected_elsewhere
        if work.name == "documents":
            samples //= 2  # answers there are written freely, and prompts are long
        draw = work.draw("test", samples=samples, seed=seed, questions=questions)
        return redirect_top(vlm, draw, scores(), draws=draws, details=False, **more)

    return measure


def _transfer(vlm: VLM, tested: str) -> Callable[..., Transfer]:
    def measure(seed: int = verdicts.SEED, **more: Any) -> Transfer:
        draw = tested_task(vlm, tested).draw("test", samples=extent(vlm).transferred, seed=seed, questions=4)
        return transfer(vlm, draw, {ranked: _scores(vlm, ranked) for ranked in RETRIEVING}, **more)

    return measure


def _ways(vlm: VLM, domain: str, split: str) -> Callable[..., Reductions]:
    def measure(seed: int = verdicts.SEED, **more: Any) -> Reductions:
        work = tested_task(vlm, domain)
        draw = work.draw(split, samples=COMPARED, seed=seed, questions=4)
        return compare_reductions(vlm, draw, work.draw("select", samples=256), **more)

    return measure


def _effects(vlm: VLM, domain: str, split: str, samples: int, folder: Path) -> Callable[..., HeadEffects]:
    """On `test`, what was found on `validate` predicts too: how well could any score do?"""

    def measure(seed: int = 0, **more: Any) -> HeadEffects:
        cell = library.cell(vlm.name, domain)
        scores = {one.key: cell.metrics[one.key].values for one in METRICS.values() if one.key in cell.metrics}
        if split == "test":
            before = HeadEffects.load(folder / "effects" / vlm.name / f"{domain}-validate.json")
            scores |= {"its effect alone": before.alone.value, "its effect in company": before.company.value}
        draw = tested_task(vlm, domain).draw(split, samples=samples, seed=seed, questions=4)
        return measure_head_effects(vlm, draw, scores, batch_size=extent(vlm).batch_size, **more)

    return measure


def _hybrid(vlm: VLM, domain: str) -> Callable[..., Hybrid]:
    size = extent(vlm)
    samples, draws = size.hybrid

    def measure(seed: int = 0, **more: Any) -> Hybrid:
        draw, scores = tested_task(vlm, domain).draw("test", samples=samples, seed=seed), _scores(vlm, domain)
        return measure_hybrid(vlm, draw, scores, width=size.window, draws=draws, batch_size=size.batch_size, **more)

    return measure


def _hybrid_long(vlm: VLM, domain: str) -> Callable[..., Hybrid]:
    def measure(seed: int = 0, **more: Any) -> Hybrid:
        work, scores = _long(vlm, domain)
        draw = work.draw("test", samples=560, seed=seed, questions=20)
        return measure_hybrid(vlm, draw, scores, width=256, doses=(0.05, 0.10, 0.20), draws=3, **more)

    return measure


def _tradeoff(vlm: VLM, domain: str) -> Callable[..., Tradeoff]:
    def measure(seed: int = 0, **more: Any) -> Tradeoff:
        work, scores = _long(vlm, domain)
        draw = work.draw("test", samples=320, seed=seed, questions=20)
        return measure_tradeoff(vlm, draw, scores, widths=(64, 256, 1024), doses=(0.0, 0.05, 0.10, 0.20), **more)

    return measure


def _long(vlm: VLM, domain: str) -> tuple[Task, HeadScores]:
    """A task of thousands of visual tokens, and the heads ranked on few samples as long as those of the test: each is
    one pass."""
    work = task(domain, **LONG[domain])
    return work, score_heads(vlm, work.draw("select", samples=48), batch_size=1)
