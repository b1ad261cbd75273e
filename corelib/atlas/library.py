"""The committed results: the head atlas, and every causal result beside it, a file each.

    cells/mini-s/scenes.json                  the scores of all heads
    KIND/MODEL/NAME.json                      all others, by kind (`kinds.py`)

    cell("mini-s", "scenes").scores()                     # HeadScores, RAM
    cell("mini-s", "scenes").scores("answer/mean/lift")   # another metric, from the same samples
    ablation("mini-s", "scenes").conditions.core.loss.accuracy

`corelib atlas build` makes them anew (`build.py`); what is measured is in `plan.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from corelib.analysis.published_result import Published
from corelib.atlas.cell import Cell
from corelib.atlas.kinds import KINDS, Causal
from corelib.benchmarks.speed import Speed
from corelib.benchmarks.tradeoff import Tradeoff
from corelib.core.errors import check_known
from corelib.core.head_scores import HeadScores
from corelib.core.results import Result
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.decoys import Decoys
from corelib.experiments.dense_choices import DenseChoices
from corelib.experiments.gaze_effects import GazeEffects
from corelib.experiments.head_effects import HeadEffects
from corelib.experiments.head_story_result import HeadStory
from corelib.experiments.hybrid import Hybrid
from corelib.experiments.inheritance_result import Inheritance
from corelib.experiments.knockout import PathKnockouts
from corelib.experiments.locating_result import Locating
from corelib.experiments.redirection_result import Redirection
from corelib.experiments.reductions_result import Reductions
from corelib.experiments.relays import Relays
from corelib.experiments.rest_result import Rests
from corelib.experiments.sample_curve import SampleCurve
from corelib.experiments.transfer import Transfer
from corelib.experiments.trial_result import Trial
from corelib.experiments.variation import Variation
from corelib.experiments.windowed_run import WindowAdaptation
from corelib.experiments.written_rows import WrittenRows

HOME = Path(__file__).parent
CELLS = HOME / "cells"


def models() -> tuple[str, ...]:
    """The models that the atlas has."""
    return tuple(sorted(path.name for path in CELLS.glob("*") if path.is_dir()))


def domains(model: str) -> tuple[str, ...]:
    """The domains in which it has a model."""
    check_known("model of the atlas", model, models())
    return tuple(sorted(path.stem for path in (CELLS / model).glob("*.json")))


def cell(model: str, domain: str) -> Cell:
    """What the atlas knows of a model in a domain.

    Raises: UnknownName if it has none.

    >>> cell("mini-s", "scenes").scores().shape
    (6, 8)
    """
    check_known(f"domain of {model} in the atlas", domain, domains(model))
    return Cell.load(CELLS / model / f"{domain}.json")


R = TypeVar("R", bound=Result)


def ablation(model: str, name: str) -> Ablation:
    """A committed ablation by its name, such as `scenes` or `scenes-on-needle`."""
    return _typed(Ablation, "ablations", model, name)


def effects(model: str, name: str) -> HeadEffects:
    """Committed effects of all heads, such as `scenes-validate`."""
    return _typed(HeadEffects, "effects", model, name)


def knockouts(model: str, name: str) -> PathKnockouts:
    """Committed knockouts of the paths of a domain, by path and window of layers."""
    return _typed(PathKnockouts, "knockouts", model, name)


def redirection(model: str, name: str) -> Redirection:
    """A committed redirection by its name, such as `scenes` or `scenes-on-video`."""
    return _typed(Redirection, "redirections", model, name)


def transfer(model: str, name: str) -> Transfer:
    """Committed tests of the heads of all tasks in one, such as `video`."""
    return _typed(Transfer, "transfers", model, name)


def reductions(model: str, name: str) -> Reductions:
    """Committed ways to read RAM, compared, such as `documents-validate`."""
    return _typed(Reductions, "reductions", model, name)


def hybrid(model: str, domain: str) -> Hybrid:
    """A committed result with few heads dense."""
    return _typed(Hybrid, "hybrids", model, domain)


def tradeoff(model: str, domain: str) -> Tradeoff:
    """A committed trade of accuracy for speed."""
    return _typed(Tradeoff, "tradeoffs", model, domain)


def inheritance(model: str, name: str = "pictures") -> Inheritance:
    """Committed short adaptations of the language model under a bridge, with other heads that may see."""
    return _typed(Inheritance, "inheritance", model, name)


def story(model: str, name: str) -> HeadStory:
    """What is told of one head in a domain, such as `documents-L24H4`."""
    return _typed(HeadStory, "stories", model, name)


def relays(model: str, domain: str) -> Relays:
    """The heads of the second step: those through which the answer's row reads where something was fetched before."""
    return _typed(Relays, "relays", model, domain)


def sample_curve(model: str, domain: str) -> SampleCurve:
    """How much of the top heads few samples find, and of what they do."""
    return _typed(SampleCurve, "curves", model, domain)


def gaze_effects(model: str, domain: str) -> GazeEffects:
    """What moving the gaze of each head does, and how well scores predict it."""
    return _typed(GazeEffects, "gaze", model, domain)


def locating(model: str, name: str) -> Locating:
    """How well heads point at the evidence, such as `documents`."""
    return _typed(Locating, "locating", model, name)


def written_rows(model: str, name: str) -> WrittenRows:
    """Heads ranked at the right answers and at what the model writes itself, such as `documents`."""
    return _typed(WrittenRows, "written", model, name)


def decoys(model: str, domain: str) -> Decoys:
    """Heads that look and say nothing, and which scores take them for real."""
    return _typed(Decoys, "decoys", model, domain)


def variation(model: str, name: str) -> Variation:
    """The same heads with other words, fonts, backgrounds or more things, such as `scenes-which`."""
    return _typed(Variation, "variations", model, name)


def long_ranking(model: str, name: str) -> HeadScores:
    """Committed RAM of all heads on long prompts, such as `documents-4k`."""
    return _typed(HeadScores, "rankings", model, name)


def trial(model: str, name: str) -> Trial:
    """What few dense heads keep in a cell of the trial, such as `scenes-w8` or `documents-4k-w256`."""
    return _typed(Trial, "trials", model, name)


def rests(model: str, name: str) -> Rests:
    """What the heads see that are not dense, taken apart and replaced, such as `documents-2k`."""
    return _typed(Rests, "rests", model, name)


def dense_choices(model: str, name: str) -> DenseChoices:
    """Which heads should stay dense: rankings compared, such as `documents-1k`."""
    return _typed(DenseChoices, "choices", model, name)


def window_adaptation(model: str, name: str = "windows") -> WindowAdaptation:
    """A little training under windows, with these heads dense or with others."""
    return _typed(WindowAdaptation, "adaptations", model, name)


def name_across(ranked: str, tested: str) -> str:
    """What a result is called whose heads were ranked in one task and tested in another.

    >>> name_across("scenes", "video"), name_across("needle", "needle")
    ('scenes-on-video', 'needle')
    """
    return ranked if ranked == tested else f"{ranked}-on-{tested}"


def speed(model: str) -> Speed | None:
    """How long a model takes with few heads dense, on the machine that the file names; None if it was not timed."""
    path = HOME / "bench" / f"{model}-cpu.json"
    return Speed.load(path) if path.exists() else None


def published() -> Published:
    """What others measured on large models, by the statistics of this book (`tools/published_heads.py`).

    >>> published().rankings[0].name
    'llama-2-7b-80k'
    """
    return Published.load(HOME / "published.json")


def results(kind: str, model: str) -> tuple[str, ...]:
    """The names of a model's committed results of one kind."""
    check_known("kind of result", kind, KINDS)
    return tuple(sorted(path.stem for path in (HOME / kind / model).glob("*.json")))


def _typed(result: type[R], kind: str, model: str, name: str) -> R:
    found = _read(kind, model, name)
    assert isinstance(found, result)  # as `KINDS` says
    return found


def _read(kind: str, model: str, name: str) -> Causal:
    check_known(f"result of {model} among {kind}", name, results(kind, model))
    return KINDS[kind].load(HOME / kind / model / f"{name}.json")
