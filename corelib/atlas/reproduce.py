"""Compute a row of the report card anew, on fewer samples: does it come out the same?

    for committed, anew in reproduce(load("bridge"), "necessity", seed=31, domains=("scenes",)): ...

The heads are those of the committed ranking. New are the pictures, drawn by a seed that the card has not seen, and the
matched sets: `SETS` of them, so that the least p is 1 / (1 + `SETS`). Intervals are wider than the card's; a verdict
may become *undecided* for that reason alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import torch

from corelib.analysis.concentration import half_share, top_share
from corelib.analysis.division import division
from corelib.analysis.stats import bootstrap_interval
from corelib.atlas import explanations, findings, library, verdicts
from corelib.atlas.extents import extent
from corelib.atlas.findings import Finding
from corelib.atlas.ranked import ranking, tested_task
from corelib.core.errors import BadInput, check_known
from corelib.core.progress import Progress, silent
from corelib.core.values import Estimate
from corelib.experiments.ablation import ablate_top
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.redirection import redirect_top
from corelib.experiments.redirection_result import Redirection
from corelib.experiments.score_heads import measure_heads
from corelib.metrics.catalogue import PRIMARY, Metric
from corelib.models.vlm import VLM
from corelib.tasks import DOMAINS

SETS = 20
QUESTIONS = 64
ROWS: dict[str, Callable[[str, str], Finding]] = {  # by the card's claims; in what they are read from the atlas
    "extraction": findings.find_extraction,
    "sparsity": findings.find_sparsity,
    "division": findings.find_division,
    "across domains": lambda model, domain: findings.find_across_domains(model),
    "necessity": findings.find_necessity,
    "lower-ranked": findings.find_lower_ranked,
    "sufficiency": findings.find_sufficiency,
}


def reproduce(
    vlm: VLM,
    row: str,
    *,
    seed: int,
    domains: tuple[str, ...] = DOMAINS,
    progress: Progress = silent,
) -> Iterator[tuple[Finding, Finding]]:
    """What is committed and what comes out anew, in each of the `domains`; across domains, once.

    Raises: UnknownName for another row or domain, BadInput for a seed of the card itself.
    """
    check_known("row of the card", row, ROWS)
    for domain in domains:
        check_known("domain", domain, DOMAINS)
    if seed in (0, verdicts.SEED, verdicts.CONFIRMING, explanations.STORIES_SEED):
        raise BadInput(f"seed {seed} is one that results of this book were drawn with: give another")
    if row == "across domains":
        yield ROWS[row](vlm.name, ""), _across(vlm, seed, progress)
        return
    for domain in domains:
        yield ROWS[row](vlm.name, domain), _anew(vlm, row, domain, seed, progress)


def _anew(vlm: VLM, row: str, domain: str, seed: int, progress: Progress) -> Finding:
    if row in ("sparsity", "division"):
        return _looks(vlm, row, domain, seed, progress)
    if row == "extraction":
        return findings.extraction_of(_redirected(vlm, domain, domain, seed, QUESTIONS, progress), domain)
    of: dict[str, Callable[[Ablation, str], Finding]] = {
        "necessity": findings.necessity_of,
        "lower-ranked": findings.lower_ranked_of,
        "sufficiency": findings.sufficiency_of,
    }
    draw = tested_task(vlm, domain).draw("test", samples=QUESTIONS, seed=seed, questions=4)
    with _precision(vlm):
        found = ablate_top(
            vlm,
            draw,
            ranking(vlm, domain),
            nulls=("kv_matched", "random"),
            draws=SETS,
            doses=(0.05,) if row == "sufficiency" else None,
            dose_draws=1,
            batch_size=extent(vlm).batch_size,
            progress=progress,
        )
    return of[row](found, domain)


def _precision(vlm: VLM) -> AbstractContextManager[object]:
    """That of the committed ablations: a large model computes in bfloat16 on the CPU."""
    return torch.autocast("cpu", torch.bfloat16, enabled=extent(vlm).half)


def _redirected(vlm: VLM, ranked: str, tested: str, seed: int, questions: int, progress: Progress) -> Redirection:
    draw = tested_task(vlm, tested).draw("test", samples=questions, seed=seed, questions=4)
    return redirect_top(vlm, draw, ranking(vlm, ranked), draws=SETS, details=False, batch_size=32, progress=progress)


def _across(vlm: VLM, seed: int, progress: Progress) -> Finding:
    pairs = [(one, two) for one in DOMAINS for two in DOMAINS if one != two]
    found = {library.name_across(*pair): _redirected(vlm, *pair, seed, QUESTIONS // 2, progress) for pair in pairs}
    return findings.across_of(vlm.name, found)


def _looks(vlm: VLM, row: str, domain: str, seed: int, progress: Progress) -> Finding:
    """Sparsity and division ask what heads look at: RAM and the entropy elsewhere, on new samples."""
    elsewhere = Metric("entropy_elsewhere")
    draw = tested_task(vlm, domain).draw("select", samples=QUESTIONS, seed=seed)
    found = measure_heads(
        vlm,
        draw,
        quantities=[PRIMARY.quantity, elsewhere.quantity],
        keys=[PRIMARY.key, elsewhere.key],
        progress=progress,
    )
    assert found is not None  # one process has them all
    if row == "division":
        values = found.scores[elsewhere.key].double().numpy()
        return findings.division_of(vlm.name, domain, division(values, ranking(vlm, domain).top(), vlm.num_kv_heads))
    values = found.scores[PRIMARY.key].double().numpy()
    interval = partial(bootstrap_interval, clusters=draw.clusters)

    def both(table: np.ndarray) -> list[float]:
        return [half_share(table), top_share(table)]

    ends = interval(values, statistic=both)
    half, top = (
        Estimate(value, *map(float, end)) for value, end in zip(both(values.mean(0)), np.transpose(ends), strict=True)
    )
    return findings.sparsity_of(vlm.name, domain, half, top)
