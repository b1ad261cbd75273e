"""How the causal results of the atlas are had: functions of `seed`, `store` and `progress`, made for one model.

measure = redirection(vlm, "scenes")
measure(seed=20, store=folder)                  # a `Redirection`
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from corelib.atlas import library, verdicts
from corelib.atlas.extents import COMPARED, REDIRECTED, extent
from corelib.atlas.ranked import ranking, tested_task
from corelib.experiments.ablation import ablate_top
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.head_effects import HeadEffects, measure_head_effects
from corelib.experiments.knockout import PathKnockouts, knock_out_paths
from corelib.experiments.locating import measure_locating
from corelib.experiments.locating_result import Locating
from corelib.experiments.redirection import redirect_top
from corelib.experiments.redirection_result import Redirection
from corelib.experiments.reductions import compare_reductions
from corelib.experiments.reductions_result import Reductions
from corelib.experiments.transfer import Transfer, transfer
from corelib.experiments.written_rows import WrittenRows, compare_written
from corelib.metrics.catalogue import METRICS
from corelib.models.vlm import VLM
from corelib.tasks import RETRIEVING, Task, task

NORMS = METRICS["output norm"].key
POINTED = 1024  # questions to which heads are read as a pointer
WRITTEN = 128  # questions of a cell to which heads are ranked at what the model writes, too


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


def located(vlm: VLM, domain: str) -> Callable[..., Locating]:
    """The top heads, read as a pointer to the evidence."""

    def measure(seed: int = verdicts.LOCATING, **more: Any) -> Locating:
        draw = tested_task(vlm, domain).draw("test", samples=POINTED, seed=seed, questions=4)
        return measure_locating(vlm, draw, ranking(vlm, domain), **more)

    return measure


def at_written(vlm: VLM, domain: str) -> Callable[..., WrittenRows]:
    """Heads ranked on the first samples of a cell, at the right answers and at what the model writes."""

    def measure(seed: int = 0, **more: Any) -> WrittenRows:
        return compare_written(vlm, task(domain).draw("select", samples=WRITTEN, seed=seed), **more)

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
