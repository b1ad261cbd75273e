"""How it is had what few dense heads keep, and what time they save. Functions as in `measures.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from corelib.atlas import verdicts
from corelib.atlas.extents import extent
from corelib.atlas.ranked import ranking, tested_task
from corelib.atlas.trial_cells import RANKED_ON, TRIED_ON, TrialCell, prompt
from corelib.benchmarks.tradeoff import Tradeoff, measure_tradeoff
from corelib.core.head_scores import HeadScores
from corelib.experiments.dense_choices import DenseChoices, compare_choices
from corelib.experiments.dense_rankings import rank_for_density
from corelib.experiments.hybrid import Hybrid, measure_hybrid
from corelib.experiments.out_of_window import sinks_and_length
from corelib.experiments.rest import compare_rests
from corelib.experiments.rest_result import Rests
from corelib.experiments.score_heads import score_heads
from corelib.experiments.trial import measure_trial
from corelib.experiments.trial_result import Trial
from corelib.experiments.windowed_run import WindowAdaptation
from corelib.models.vlm import VLM
from corelib.sparse import Window
from corelib.tasks import Task, task
from corelib.training.window_adaptation import adapt_to_windows

LONG = {"scenes": {"pictures": 114}, "documents": {"pages": 84}}  # about 4,000 visual tokens


def ranked_at(vlm: VLM, domain: str, length: str) -> Callable[..., HeadScores]:
    """The heads ranked where prompts are long."""

    def measure(seed: int = 0, **more: Any) -> HeadScores:
        draw = _asked(vlm, domain, length).draw("select", samples=RANKED_ON[length], seed=seed)
        return score_heads(vlm, draw, batch_size=1, **more)

    return measure


def tried(vlm: VLM, cell: TrialCell, folder: Path) -> Callable[..., Trial]:
    """One cell of the trial. Heads are ranked on prompts of its length."""

    def measure(seed: int = verdicts.TRIAL, **more: Any) -> Trial:
        work = _asked(vlm, cell.domain, cell.length)
        draw = work.draw("test", samples=cell.samples, seed=seed, questions=cell.questions)
        scores = _ranked(vlm, cell.domain, cell.length, folder)
        options: dict[str, Any] = {"doses": cell.doses, "draws": cell.draws, "few": cell.few, "few_on": cell.few_on}
        return measure_trial(vlm, draw, scores, width=cell.width, best_keys=cell.best_keys, **options, **more)

    return measure


def rested(
    vlm: VLM, domain: str, length: str, width: int, share: float, questions: int, folder: Path
) -> Callable[..., Rests]:
    """What the heads see that are not dense, taken apart and replaced."""

    def measure(seed: int = verdicts.TRIAL, **more: Any) -> Rests:
        draw = _asked(vlm, domain, length).draw("test", samples=480, seed=seed, questions=questions)
        return compare_rests(vlm, draw, _ranked(vlm, domain, length, folder).top(share), width=width, **more)

    return measure


def chosen(vlm: VLM, domain: str, length: str, width: int, share: float = 0.05) -> Callable[..., DenseChoices]:
    """Which heads should stay dense: ranked on `select`, tried on `validate`, compared on `test`."""

    def measure(seed: int = verdicts.TRIAL, store: Path | None = None, **more: Any) -> DenseChoices:
        work = _asked(vlm, domain, length)
        ranked = work.draw("select", samples=RANKED_ON[length], seed=0)
        tried, draw = (work.draw(split, samples=n, seed=seed, questions=24) for split, n in TRIED_ON.items())
        window = Window(width, sinks_and_length(vlm, draw)[0])
        named = rank_for_density(vlm, ranked, tried, window, fraction=share)
        return compare_choices(vlm, draw, named, width=width, store=store, **more)

    return measure


def adapted(vlm: VLM, domain: str) -> Callable[..., WindowAdaptation]:
    """A little training under a window, with these heads dense or with others."""

    def measure(seed: int = 1, **more: Any) -> WindowAdaptation:
        return adapt_to_windows(vlm, ranking(vlm, domain).top(), seed=seed, **more)

    return measure


def _asked(vlm: VLM, domain: str, length: str) -> Task:
    return tested_task(vlm, domain).with_difficulty(**prompt(vlm.name, domain, length))


def _ranked(vlm: VLM, domain: str, length: str, folder: Path) -> HeadScores:
    """The ranking on prompts of this length, measured before."""
    if not length:
        return ranking(vlm, domain)
    return HeadScores.load(folder / "rankings" / vlm.name / f"{domain}-{length}.json")


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
