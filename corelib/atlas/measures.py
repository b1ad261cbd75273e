"""How each result of the atlas is had: functions of `seed`, `store` and `progress`, made for one model.

measure = redirection(vlm, "scenes")
measure(seed=20, store=folder)                  # a `Redirection`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from corelib.atlas import library, verdicts
from corelib.atlas.by_sample import of_kind, sample_scores
from corelib.atlas.extents import COMPARED, REDIRECTED, extent
from corelib.benchmarks.tradeoff import Tradeoff, measure_tradeoff
from corelib.core.head_scores import HeadScores, ordered
from corelib.core.heads import HeadSet, top_count
from corelib.core.progress import Progress, silent
from corelib.experiments.ablation import ablate_top
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.decoys import Decoys, measure_decoys
from corelib.experiments.gaze_effects import GazeEffects, measure_gaze_effects
from corelib.experiments.head_effects import HeadEffects, measure_head_effects
from corelib.experiments.head_story import tell_story
from corelib.experiments.head_story_result import HeadStory
from corelib.experiments.hybrid import Hybrid, measure_hybrid
from corelib.experiments.inheritance_result import Inheritance
from corelib.experiments.knockout import PathKnockouts, knock_out_paths
from corelib.experiments.redirection import redirect_top
from corelib.experiments.redirection_result import Redirection
from corelib.experiments.reductions import compare_reductions
from corelib.experiments.reductions_result import Reductions
from corelib.experiments.relays import Relays, find_relays
from corelib.experiments.sample_curve import SampleCurve, sample_curve
from corelib.experiments.score_heads import score_heads
from corelib.experiments.transfer import Transfer, transfer
from corelib.experiments.variation import Variation, vary
from corelib.metrics.catalogue import METRICS
from corelib.models.vlm import VLM
from corelib.tasks import RETRIEVING, Setting, Task, task
from corelib.training.inheritance import measure_inheritance

NORMS = METRICS["output norm"].key
STORIES_SEED = 22  # of `test`: samples that nothing else has drawn
RELAYED = {"validate": 48, "test": 256}  # questions
LONG = {"scenes": {"pictures": 114}, "documents": {"pages": 84}}  # about 4,000 visual tokens


def tested_task(vlm: VLM, domain: str) -> Task:
    """The task that tests heads in a domain. Of clips the bridge is asked for digits alone, as its card says: its tower
    states what is beside each thing, so that the frame can be told without the evidence (chapter 6)."""
    return task(domain, **vlm.study.difficulty.get(domain, {}))


def ranking(vlm: VLM, domain: str, kind: str | None = None) -> HeadScores:
    """The committed RAM of all heads: of one kind of question, if it is named or if the model is asked for no other."""
    cell, kind = library.cell(vlm.name, domain), kind or vlm.study.kind.get(domain)
    return cell.scores() if kind is None else cell.of_kind(kind)


def ablation(
    vlm: VLM, ranked: str, tested: str, samples: int, *, questions: int = 4, norms: bool = True, **options: Any
) -> Callable[..., Ablation]:
    """The heads on top of a ranking, and others, removed in a task."""

    def measure(seed: int = 0, **more: Any) -> Ablation:
        table = library.cell(vlm.name, ranked).scores(NORMS).values if norms else None
        draw = tested_task(vlm, tested).draw("test", samples=samples, seed=seed, questions=questions)
        size = extent(vlm).batch_size
        return ablate_top(vlm, draw, ranking(vlm, ranked), norms=table, batch_size=size, **options, **more)

    return measure


def knockout(vlm: VLM, domain: str, samples: int) -> Callable[..., PathKnockouts]:
    """The paths of a domain, knocked out."""

    def measure(seed: int = 0, **more: Any) -> PathKnockouts:
        return knock_out_paths(vlm, tested_task(vlm, domain).draw("test", samples=samples, seed=seed), **more)

    return measure


def redirection(vlm: VLM, domain: str) -> Callable[..., Redirection]:
    """The gaze of the top heads moved where they were ranked, with all details."""

    def measure(seed: int = verdicts.SEED, **more: Any) -> Redirection:
        draw = tested_task(vlm, domain).draw("test", samples=REDIRECTED[domain], seed=seed, questions=4)
        return redirect_top(vlm, draw, ranking(vlm, domain), **more)

    return measure


def redirected(
    vlm: VLM, ranked: str, work: Task, *, kind: str | None = None, questions: int = 4
) -> Callable[..., Redirection]:
    """The top heads of a ranking in another task, or of one kind of question in it: all others and matched sets alone
    beside them, on fewer samples."""

    def measure(seed: int = verdicts.SEED, **more: Any) -> Redirection:
        samples, draws = extent(vlm).redirected_elsewhere
        if work.name == "documents":
            samples //= 2  # answers there are written freely, and prompts are long
        draw = work.draw("test", samples=samples, seed=seed, questions=questions)
        return redirect_top(vlm, draw, ranking(vlm, ranked, kind), draws=draws, details=False, **more)

    return measure


def transferred(vlm: VLM, tested: str) -> Callable[..., Transfer]:
    """The heads of every ranking, tested in one task."""

    def measure(seed: int = verdicts.SEED, **more: Any) -> Transfer:
        draw = tested_task(vlm, tested).draw("test", samples=extent(vlm).transferred, seed=seed, questions=4)
        return transfer(vlm, draw, {ranked: ranking(vlm, ranked) for ranked in RETRIEVING}, **more)

    return measure


def ways(vlm: VLM, domain: str, split: str) -> Callable[..., Reductions]:
    """Ways to read RAM, compared on a split."""

    def measure(seed: int = verdicts.SEED, **more: Any) -> Reductions:
        work = tested_task(vlm, domain)
        draw = work.draw(split, samples=COMPARED, seed=seed, questions=4)
        return compare_reductions(vlm, draw, work.draw("select", samples=256), **more)

    return measure


def inherited(vlm: VLM) -> Callable[..., Inheritance]:
    """The language model adapted anew, with other heads that may see: the part of the heads that look most, over scenes
    and documents."""

    def measure(seed: int = 1, **more: Any) -> Inheritance:
        looks = np.mean([ranking(vlm, domain).values for domain in ("scenes", "documents")], axis=0)
        return measure_inheritance(vlm, HeadSet(ordered(looks)[: top_count(0.05, looks.size)]), seed=seed, **more)

    return measure


def told(vlm: VLM, domain: str, head: str, kind: str | None = None) -> Callable[..., HeadStory]:
    """What one head does."""

    def measure(seed: int = STORIES_SEED, **more: Any) -> HeadStory:
        samples = 64 if extent(vlm).half else 192
        draw = tested_task(vlm, domain).draw("test", samples=samples, seed=seed, questions=8)
        return tell_story(vlm, draw, HeadSet(head), ranking(vlm, domain).top(), kind=kind)

    return measure


def relayed(vlm: VLM, domain: str) -> Callable[..., Relays]:
    """The heads of the second step: chosen on `validate`, tested on `test`. One kind of question, whose third word from
    the end closes the description."""

    def measure(seed: int = STORIES_SEED, progress: Progress = silent, **more: Any) -> Relays:
        work = task(domain, relational=0.0)
        scanned, tested = (work.draw(split, samples=n, seed=seed, questions=4) for split, n in RELAYED.items())
        return find_relays(vlm, scanned, tested, ranking(vlm, domain).top(), progress=progress)

    return measure


def few_samples(vlm: VLM, domain: str) -> Callable[..., SampleCurve]:
    """Heads ranked on few samples of the cell, and their gaze moved."""

    def measure(seed: int = STORIES_SEED, **more: Any) -> SampleCurve:
        samples = (96 if domain == "documents" else 128) if extent(vlm).half else 256
        draw = tested_task(vlm, domain).draw("test", samples=samples, seed=seed, questions=4)
        values, kind = sample_scores(vlm.name, domain), vlm.study.kind.get(domain)
        ranked_on = library.cell(vlm.name, domain).task
        if kind is not None:
            values = values[of_kind(vlm.name, domain, kind)]
        return sample_curve(vlm, draw, values, replace(ranked_on, samples=len(values)), **more)

    return measure


def gaze(vlm: VLM, domain: str) -> Callable[..., GazeEffects]:
    """The gaze of every head, and of the top of every score, moved."""

    def measure(seed: int = STORIES_SEED, **more: Any) -> GazeEffects:
        draw = tested_task(vlm, domain).draw("test", samples=64 if extent(vlm).half else 256, seed=seed, questions=4)
        cell, main = library.cell(vlm.name, domain), "RAM"
        scores = {name: cell.metrics[one.key].values for name, one in METRICS.items() if one.key in cell.metrics}
        scores[main] = ranking(vlm, domain).values
        return measure_gaze_effects(vlm, draw, scores, main=main, **more)

    return measure


def decoyed(vlm: VLM, domain: str) -> Callable[..., Decoys]:
    """Every second head on top by RAM, silenced."""

    def measure(seed: int = STORIES_SEED, **more: Any) -> Decoys:
        scores = ranking(vlm, domain)
        chosen = HeadSet(scores.order()[: len(scores.top()) : 2])
        draw = tested_task(vlm, domain).draw("test", samples=64 if extent(vlm).half else 256, seed=seed)
        return measure_decoys(vlm, draw, chosen)

    return measure


def varied(vlm: VLM, domain: str, difficulty: Mapping[str, Setting]) -> Callable[..., Variation]:
    """The usual heads, on unusual samples."""

    def measure(seed: int = STORIES_SEED, **more: Any) -> Variation:
        work = tested_task(vlm, domain).with_difficulty(**difficulty)
        samples = 128 if extent(vlm).half else 256
        draws = work.draw("select", samples=96, seed=seed), work.draw("test", samples=samples, seed=seed, questions=4)
        return vary(vlm, ranking(vlm, domain), *draws)

    return measure


def effects(vlm: VLM, domain: str, split: str, samples: int, folder: Path) -> Callable[..., HeadEffects]:
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


def hybrid(vlm: VLM, domain: str) -> Callable[..., Hybrid]:
    """Few heads dense, all others sinks and a window."""

    size = extent(vlm)
    samples, draws = size.hybrid

    def measure(seed: int = 0, **more: Any) -> Hybrid:
        draw, scores = tested_task(vlm, domain).draw("test", samples=samples, seed=seed), ranking(vlm, domain)
        return measure_hybrid(vlm, draw, scores, width=size.window, draws=draws, batch_size=size.batch_size, **more)

    return measure


def hybrid_long(vlm: VLM, domain: str) -> Callable[..., Hybrid]:
    """The same with thousands of visual tokens."""

    def measure(seed: int = 0, **more: Any) -> Hybrid:
        work, scores = _long(vlm, domain)
        draw = work.draw("test", samples=560, seed=seed, questions=20)
        return measure_hybrid(vlm, draw, scores, width=256, doses=(0.05, 0.10, 0.20), draws=3, **more)

    return measure


def tradeoff(vlm: VLM, domain: str) -> Callable[..., Tradeoff]:
    """What is lost, and how much time is gained."""

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
