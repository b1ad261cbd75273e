"""Build the head atlas: every metric of every head in one domain, and every causal result of the plan.

A result that is there, of the model as it is now, is not measured again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corelib.analysis.concentration import gini, half_share, participation_ratio, top_share
from corelib.analysis.division import Division, division
from corelib.analysis.layers import mean_depth
from corelib.analysis.stats import bootstrap_interval
from corelib.atlas.by_sample import write_samples
from corelib.atlas.cell import Cell, KindPart, Part, Summary
from corelib.atlas.kinds import KINDS
from corelib.atlas.library import CELLS, HOME
from corelib.atlas.plan import Job, jobs
from corelib.core.errors import BadInput, BadResults, NoControl, check_known
from corelib.core.head_scores import HeadScores
from corelib.core.progress import Progress, silent
from corelib.core.results import as_file_name
from corelib.core.values import Estimate
from corelib.experiments.depth import knockout_from
from corelib.experiments.evidence import validate_evidence
from corelib.experiments.reading import ALL_QUANTITIES, Measurement, readable
from corelib.experiments.score_heads import measure_heads, summarise_heads
from corelib.metrics.catalogue import DESCRIPTORS, METRICS, PRIMARY, Metric
from corelib.models.vlm import VLM
from corelib.tasks import task

WANTED = (*METRICS.values(), *map(Metric, DESCRIPTORS))
SUMMARIES = {
    "gini": gini,
    "participation_ratio": participation_ratio,
    "top_share": top_share,
    "mean_depth": mean_depth,
    "half_share": half_share,
}
ELSEWHERE = Metric("entropy_elsewhere")
CURVE = 11  # layers at most in a depth curve,
DEPTH_SAMPLES = 128  # and samples: every layer is a pass of its own
Running = Callable[[Job], AbstractContextManager[Progress]]  # shows a job's progress
FEW = 64  # samples of a kind: fewer give no scores of their own


def measure_cell(
    vlm: VLM,
    domain: str,
    *,
    samples: int = 256,
    seed: int = 0,
    store: Path | None = None,
    keep: Path | None = None,
    progress: Progress = silent,
) -> Cell:
    """Measure one cell, on the split `select`. `keep`: where the scores of every sample go (`by_sample.py`).

    Raises: BadInput in one of several processes.
    """
    began, work = time.perf_counter(), task(domain)
    draw = work.draw("select", samples=samples, seed=seed)
    quantities = readable(draw[0], ALL_QUANTITIES)
    found = measure_heads(vlm, draw, quantities=quantities, store=store, progress=progress)
    if found is None:
        raise BadInput("a cell is measured by one process")
    if keep is not None:
        write_samples(keep, found, vlm, draw)
    scores = {
        metric.key: summarise_heads(vlm, draw, found, metric=metric) for metric in WANTED if metric.key in found.scores
    }
    kinds = {kind: found.of_kind(number) for number, kind in enumerate(work.kinds)}
    kinds = {kind: mine for kind, mine in kinds.items() if len(mine.correct) >= FEW}
    layers = [*range(0, vlm.num_layers, max(1, -(-vlm.num_layers // (CURVE - 1)))), vlm.num_layers]
    fewer = work.draw("select", samples=min(samples, DEPTH_SAMPLES), seed=seed)
    with torch.autocast("cpu", torch.bfloat16, enabled=vlm.num_layers > CURVE):  # a large model
        depth = knockout_from(vlm, fewer, layers=layers, batch_size=2 * vlm.batch_size)
        validity = validate_evidence(vlm, draw, batch_size=2 * vlm.batch_size)
    primary = scores[PRIMARY.key]
    return Cell(
        model=vlm.facts,
        task=primary.task,
        level=primary.interval.level,
        metrics={key: Part(**_part(one)) for key, one in scores.items()},
        kinds={kind: _kind(summarise_heads(vlm, draw, mine)) for kind, mine in kinds.items()},
        summaries={name: _summary(mine) for name, mine in {"all": found, **kinds}.items()},
        depth=depth,
        software=primary.software,
        seconds=round(time.perf_counter() - began, 2),
        division=_division(vlm, primary, found),
        validity=validity,
    )


def _division(vlm: VLM, scores: HeadScores, found: Measurement) -> Division | None:
    """The top heads against the others of their layers; None where no disjoint set matches them."""
    try:
        return division(found.scores[ELSEWHERE.key].double().numpy(), scores.top(), vlm.num_kv_heads)
    except NoControl:
        return None


def _summary(found: Measurement) -> Summary:
    """How RAM is spread over all heads, in numbers, each with its interval."""
    values = found.scores[PRIMARY.key].double().numpy()

    def all_of_them(table: np.ndarray) -> list[float]:
        return [number(table) for number in SUMMARIES.values()]

    ends = bootstrap_interval(values, statistic=all_of_them)
    table = zip(SUMMARIES, all_of_them(values.mean(0)), *ends, strict=True)
    return Summary(**{name: Estimate(value, float(low), float(high)) for name, value, low, high in table})


def _kind(scores: HeadScores) -> KindPart:
    facts = scores.task
    return KindPart(**_part(scores), samples=facts.samples, accuracy=facts.accuracy or 0.0)


def _part(scores: HeadScores) -> dict[str, Any]:
    """What a cell keeps of head scores; the tables to four digits."""
    tables = {"values": scores.values, "low": scores.interval.low, "high": scores.interval.high}
    short = {
        name: tuple(tuple(float(f"{value:.4g}") for value in row) for row in table) for name, table in tables.items()
    }
    return {**short, "chance": scores.chance, "reliability": scores.reliability}


def build_cell(
    vlm: VLM,
    domain: str,
    *,
    folder: Path = CELLS,
    progress: Progress = silent,
    **options: Any,
) -> Path:
    """Measure one cell and write it; goes on where a stopped run was."""
    target = folder / vlm.file_name / f"{as_file_name(domain)}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    cell = measure_cell(
        vlm, domain, store=partial, keep=target.with_suffix(".safetensors"), progress=progress, **options
    )
    cell.save(target)
    shutil.rmtree(partial)
    return target


def build_results(
    vlm: VLM,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    names: Sequence[str] | None = None,
    seed: int | None = None,
    again: bool = False,
    folder: Path = HOME,
    running: Running = lambda job: nullcontext(silent),
) -> Iterator[Path]:
    """Measure what is not there yet (or all of it `again`), or only the results of these `names`; goes on where a
    stopped run was. `running` shows a job's progress while it is measured.

    `seed` is of the samples. Left out, each result's own: that of its round. A result of another seed is not there.

    Raises: UnknownName for a kind or a name that is none, BadInput for a seed that is none.
    """
    if seed is not None and seed < 0:
        raise BadInput(f"seed {seed}: give a whole number, 0 or more")
    for one in kinds:
        check_known("kind of result", one, KINDS)
    wanted = [job for job in jobs(vlm, folder) if job.kind in kinds]
    for one in names or ():
        check_known(f"result among {', '.join(kinds)}", one, dict.fromkeys(job.name for job in wanted))
    chosen = [job for job in wanted if names is None or job.name in names]
    if seed is not None:
        chosen = [replace(job, seed=seed) for job in chosen]
    return _measured(vlm, chosen, again, folder, running)


def _measured(vlm: VLM, chosen: Sequence[Job], again: bool, folder: Path, running: Running) -> Iterator[Path]:
    for job in chosen:
        target = folder / job.kind / vlm.file_name / f"{job.name}.json"
        if again or not _is_there(job, target, vlm):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{job.name}.partial")
            with torch.autocast("cpu", torch.bfloat16, enabled=job.half), running(job) as progress:
                job.measure(seed=job.seed, store=partial, progress=progress).save(target)
            shutil.rmtree(partial, ignore_errors=True)  # not everything that is measured keeps its parts
        yield target


def _is_there(job: Job, target: Path, vlm: VLM) -> bool:
    try:
        found = KINDS[job.kind].load(target)
        return found.model.sha256 == vlm.sha256 and found.task.seed == job.seed
    except BadResults:
        return False
