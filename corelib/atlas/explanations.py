"""How it is had why heads do what they do, and how far that holds: stories of heads, inheritance, few samples, decoys,
unusual samples. Functions as in `measures.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from corelib.atlas import library
from corelib.atlas.by_sample import of_kind, sample_scores
from corelib.atlas.extents import extent
from corelib.atlas.ranked import ranking, tested_task
from corelib.core.head_scores import ordered
from corelib.core.heads import HeadSet, top_count
from corelib.core.progress import Progress, silent
from corelib.experiments.decoys import Decoys, measure_decoys
from corelib.experiments.gaze_effects import GazeEffects, measure_gaze_effects
from corelib.experiments.head_story import tell_story
from corelib.experiments.head_story_result import HeadStory
from corelib.experiments.inheritance_result import Inheritance
from corelib.experiments.relays import Relays, find_relays
from corelib.experiments.sample_curve import SampleCurve, sample_curve
from corelib.experiments.variation import Variation, vary
from corelib.metrics.catalogue import METRICS
from corelib.models.vlm import VLM
from corelib.tasks import Setting, task
from corelib.training.inheritance import measure_inheritance

STORIES_SEED = 22  # of `test`: samples that nothing else has drawn
RELAYED = {"validate": 48, "test": 256}  # questions


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
