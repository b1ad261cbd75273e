"""How it is had what few dense heads keep, and what time they save. Functions as in `measures.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from corelib.atlas import verdicts
from corelib.atlas.extents import extent
from corelib.atlas.ranked import ranking, tested_task
from corelib.benchmarks.tradeoff import Tradeoff, measure_tradeoff
from corelib.core.head_scores import HeadScores
from corelib.experiments.dense_choices import DenseChoices, compare_choices
from corelib.experiments.dense_rankings import rank_for_density
from corelib.experiments.hybrid import Hybrid, measure_hybrid
from corelib.experiments.out_of_window import sinks_and_length
from corelib.experiments.rest import Rests, compare_rests
from corelib.experiments.score_heads import score_heads
from corelib.experiments.trial import measure_trial
from corelib.experiments.trial_result import Trial
from corelib.experiments.windowed_run import WindowAdaptation
from corelib.models.vlm import VLM
from corelib.sparse import Window
from corelib.tasks import Setting, Task, task
from corelib.training.window_adaptation import adapt_to_windows

LONG = {"scenes": {"pictures": 114}, "documents": {"pages": 84}}  # about 4,000 visual tokens


@dataclass(frozen=True)
class Cell:
    """One cell of the trial: a prompt, a window, how much is asked, and how many heads are dense."""

    domain: str
    width: int
    samples: int
    questions: int  # about each set of pictures
    doses: tuple[float, ...] = (0.05,)  # the first is the headline's
    draws: int = 3  # matched sets at the first dose
    few: int = 3  # … at the others
    few_on: int | None = None  # samples for all but the headline
    best_keys: bool = False
    length: str = ""  # of `LENGTHS`; empty: the usual prompt

    @property
    def name(self) -> str:
        """What its result is called."""
        return "-".join(filter(None, (self.domain, self.length, f"w{self.width}")))

    @property
    def difficulty(self) -> Mapping[str, Setting]:
        """Of its task."""
        return LENGTHS[self.length][self.domain] if self.length else {}


DOSES = (0.05, 0.01, 0.02, 0.10, 0.20)
_headline = partial(Cell, doses=DOSES, draws=20, best_keys=True)
_other = partial(Cell, best_keys=True)
SHORT = (  # the headline of each domain first; samples are more than the questions that will count
    _headline("scenes", 8, 3200, 16, few_on=800),
    _headline("documents", 32, 2880, 16, few_on=800),
    _headline("video", 16, 2640, 12, few_on=720),
    _other("scenes", 16, 400, 16),
    *(_other("documents", width, 400, 16) for width in (8, 16, 64)),
    *(_other("video", width, 360, 12) for width in (8, 32)),
)
LENGTHS: dict[str, dict[str, dict[str, Setting]]] = {  # of whole prompts, in about so many tokens
    "1k": {"documents": {"pages": 14}, "scenes": {"pictures": 24}},
    "2k": {"documents": {"pages": 28}, "scenes": {"pictures": 48}},
    "4k": {"documents": {"pages": 56}, "scenes": {"pictures": 98}},
    "7k": {"documents": {"pages": 99}, "scenes": {"pictures": 160}},
}
SMALL_LENGTHS: dict[str, dict[str, dict[str, Setting]]] = {  # the same of a mini model, whose pages are fewer tokens
    "2k": {"documents": {"pages": 40}, "scenes": {"pictures": 50}},
}
LONG_CELLS = (
    *(Cell(domain, 256, 2400, 24, draws=20, few=0, few_on=600, length="4k") for domain in ("documents", "scenes")),
    *(
        Cell(domain, 256, 768, 24, doses=DOSES, length=length)
        for length in ("1k", "2k")
        for domain in ("documents", "scenes")
    ),
    *(Cell(domain, 256, 768, 24, draws=0, few=0, length="7k") for domain in ("documents", "scenes")),
    *(Cell(domain, width, 768, 24, length="2k") for width in (128, 512) for domain in ("documents", "scenes")),
)
TIMED = {"4k": 4096, "7k": 7168}  # tokens at which the rule asks for a speed
TRIED_ON = {"validate": 48, "test": 480}  # questions
LONG_DOMAINS = ("documents", "scenes")
RESTS = {  # model → domain, length, window, share of dense heads, questions about each row of pictures
    "bridge": (("documents", "", 32, 0.05, 16),),
    "bridge-long": tuple(
        (domain, length, width, 0.05, 24) for domain in LONG_DOMAINS for length, width in (("1k", 128), ("2k", 256))
    ),
    "mini-s-long": tuple((domain, "2k", 256, 0.20, 24) for domain in LONG_DOMAINS),  # 5 % are three heads
}
CHOSEN = {"bridge-long": ("1k", 128, 0.05), "mini-s-long": ("2k", 256, 0.10)}
TRIED = {"bridge": SHORT, "bridge-long": LONG_CELLS}
RANKED_ON = {"1k": 64, "2k": 48, "4k": 32, "7k": 16}  # samples of `select`, each a pass of its own


def prompt(model: str, domain: str, length: str) -> dict[str, Setting]:
    """How difficult a task must be for prompts of this length."""
    return (SMALL_LENGTHS if model == "mini-s-long" else LENGTHS)[length][domain]


def headline(model: str, domain: str) -> Cell | None:
    """The cell of a model in which a domain is judged; None if there is none.

    >>> headline("bridge", "scenes").name, headline("bridge-long", "documents").name
    ('scenes-w8', 'documents-4k-w256')
    """
    mine = (one for one in TRIED.get(model, ()) if one.domain == domain and one.draws >= verdicts.FEWEST)
    return next(mine, None)


def ranked_at(vlm: VLM, domain: str, length: str) -> Callable[..., HeadScores]:
    """The heads ranked where prompts are long."""

    def measure(seed: int = 0, **more: Any) -> HeadScores:
        work = task(domain, **prompt(vlm.name, domain, length))
        draw = work.draw("select", samples=RANKED_ON[length], seed=seed)
        return score_heads(vlm, draw, batch_size=1, **more)

    return measure


def tried(vlm: VLM, cell: Cell, folder: Path) -> Callable[..., Trial]:
    """One cell of the trial. Heads are ranked on prompts of its length."""

    def measure(seed: int = verdicts.TRIAL, **more: Any) -> Trial:
        work = tested_task(vlm, cell.domain).with_difficulty(**cell.difficulty)
        draw = work.draw("test", samples=cell.samples, seed=seed, questions=cell.questions)
        if cell.length:
            scores = _ranked_before(vlm, cell.domain, cell.length, folder)
        else:
            scores = ranking(vlm, cell.domain)
        options: dict[str, Any] = {"doses": cell.doses, "draws": cell.draws, "few": cell.few, "few_on": cell.few_on}
        return measure_trial(vlm, draw, scores, width=cell.width, best_keys=cell.best_keys, **options, **more)

    return measure


def rested(
    vlm: VLM, domain: str, length: str, width: int, share: float, questions: int, folder: Path
) -> Callable[..., Rests]:
    """What the heads see that are not dense, taken apart and replaced."""

    def measure(seed: int = verdicts.TRIAL, **more: Any) -> Rests:
        work = task(domain, **prompt(vlm.name, domain, length)) if length else tested_task(vlm, domain)
        draw = work.draw("test", samples=480, seed=seed, questions=questions)
        scores = _ranked_before(vlm, domain, length, folder) if length else ranking(vlm, domain)
        return compare_rests(vlm, draw, scores.top(share), width=width, **more)

    return measure


def chosen(vlm: VLM, domain: str, length: str, width: int, share: float = 0.05) -> Callable[..., DenseChoices]:
    """Which heads should stay dense: ranked on `select`, tried on `validate`, compared on `test`."""

    def measure(seed: int = verdicts.TRIAL, store: Path | None = None, **more: Any) -> DenseChoices:
        work = task(domain, **prompt(vlm.name, domain, length))
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


def _ranked_before(vlm: VLM, domain: str, length: str, folder: Path) -> HeadScores:
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
