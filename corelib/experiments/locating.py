"""Can heads be read as a pointer to the evidence? How often they are right, against other heads and against no head.

    found = measure_locating(vlm, draw, ranking)
    found.core.point, found.others["all heads"].point      # is the highest token on the evidence?
    found.knows["concentration"]                           # does it tell right answers from wrong ones?

The model writes its answer; the pointers are read at the rows that predict what it wrote. Right or wrong, the question
is where the answer *should* have been read: that is what a reader wants to be shown.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from corelib.analysis.controls import random_sets
from corelib.analysis.discrimination import auroc_estimate
from corelib.analysis.kv_controls import kv_matched
from corelib.analysis.stats import bootstrap_interval, estimate, p_value
from corelib.core.errors import BadInput
from corelib.core.geometry import Box
from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import software
from corelib.core.sample_store import collect
from corelib.core.values import Accuracy
from corelib.experiments.answer_sweep import check_scores, compute_dtype
from corelib.experiments.locating_result import Locating, Pointing
from corelib.experiments.reach import within_reach
from corelib.families.base import View
from corelib.families.regions import Grid
from corelib.models.batch import Batch
from corelib.models.locate import answer_looks, place_of, weights_of
from corelib.models.vlm import VLM
from corelib.tasks import Draw, Sample
from corelib.tasks.scoring import overlap, score_sample

CONTROLS = 20  # sets of each control
TOKENS = 8  # of a written answer
NO_HEAD = "centre"  # the middle of a picture, of several the first


def measure_locating(
    vlm: VLM,
    draw: Draw,
    ranking: HeadScores,
    *,
    fraction: float = 0.05,
    draws: int = CONTROLS,
    tokens: int = TOKENS,
    batch_size: int | None = None,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Locating:
    """Point with the top heads of `ranking`, with all heads, with those of the last layer, with as many others (matched
    by layer and key/value group, and drawn blindly), and with the middle of the picture.

    Raises: BadInput if the ranking is of another model, the samples ranked the heads, or have no evidence in a picture.
    """
    began = time.perf_counter()
    check_scores(vlm, ranking, draw)
    ranking = within_reach(vlm, draw, ranking, batch_size)
    if not draw[0].images or not draw[0].evidence:
        raise BadInput(f"{draw.task.name} has no evidence in a picture: choose a task that has")
    layers, heads = vlm.num_layers, vlm.num_heads
    top = ranking.top(fraction)
    sets = {
        "core": [top],
        "all heads": [HeadSet.all(layers, heads)],
        "last layer": [HeadSet(f"L{layers - 1}H{head}" for head in range(heads))],
        "matched": kv_matched(top, layers, heads, vlm.num_kv_heads, draws=draws, seed=draw.seed),
        "random": random_sets(top, layers, heads, draws=draws, seed=draw.seed, reach=ranking.layers),
    }
    weights = weights_of([one for mine in sets.values() for one in mine], layers, heads)
    several = len(draw[0].images) > 1

    def measure(indices: list[int]) -> dict[str, Tensor]:
        return _pointed(vlm, draw.take(indices), weights, tokens, draw.task.rule)

    fingerprint = {
        "model": vlm.sha256, "precision": compute_dtype(vlm), **draw.fingerprint, "tokens": tokens,
        "sets": [str(one) for mine in sets.values() for one in mine],
    }  # fmt: skip
    size = vlm.batch_size if batch_size is None else batch_size
    kept = collect(measure, draw.samples, partial(draw.batches, size), fingerprint, store, progress)
    table = kept["pointed"].double().numpy()  # [sample, set, (page, point, overlap, sure)]
    ends = np.cumsum([0, *(len(mine) for mine in sets.values()), 1])
    names = [*sets, NO_HEAD]
    parts = {name: table[:, first:past] for name, first, past in zip(names, ends[:-1], ends[1:], strict=True)}
    interval = partial(bootstrap_interval, clusters=draw.clusters, seed=draw.seed)
    right = kept["right"].numpy()
    singles = {name: _pointing(part[:, 0], several, interval) for name, part in parts.items() if part.shape[1] == 1}
    controls = {name: tuple(parts[name][:, :, 1].mean(0).tolist()) for name in ("matched", "random")}
    core = parts["core"][:, 0]
    return Locating(
        model=replace(vlm.facts, reach=ranking.model.reach),
        task=draw.facts(questions=draw.questions, answers="written"),
        ranked_on=ranking.task,
        heads=top,
        core=singles.pop("core"),
        others=singles,
        controls=controls,
        p={name: p_value(core[:, 1].mean(), null) for name, null in controls.items()},
        gain=estimate(core[:, 1] - parts["all heads"][:, 0, 1], interval),
        accuracy=Accuracy.of(estimate(right.astype(float), interval)),
        knows={
            "concentration": auroc_estimate(core[:, 3], right, draw.clusters, seed=draw.seed),
            "probability": auroc_estimate(kept["logprob"].double().numpy(), right, draw.clusters, seed=draw.seed),
        },
        when_right=_when(core, right),
        when_wrong=_when(core, ~right),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def _pointed(vlm: VLM, samples: Sequence[Sample], weights: Tensor, tokens: int, rule: str) -> dict[str, Tensor]:
    """Of one batch: what each set points at, whether the written answer is right, and how likely it was."""
    texts = [text.strip() for text in vlm.generate(vlm.encode(samples, answers=False), tokens)]
    # who writes nothing is read at the last row of the prompt, which any single token stands behind
    said = [replace(sample, answer=text or "?") for sample, text in zip(samples, texts, strict=True)]
    batch = vlm.encode(said)
    looks = answer_looks(vlm, batch, weights)
    evidence = batch.evidence.cpu()
    found = torch.stack(
        [
            torch.stack(
                [*(judge(look[row], batch.views[row], evidence[row], sample) for look in looks), _centre(batch, row)]
            )
            for row, sample in enumerate(samples)
        ]
    )
    right = [score_sample(text, sample, rule) == 1 for text, sample in zip(texts, samples, strict=True)]
    return {"pointed": found, "right": torch.tensor(right), "logprob": vlm.answer(batch).logprob.cpu()}


def judge(
    look: Float[Tensor, " token"], views: Sequence[View], evidence: Tensor, sample: Sample
) -> Float[Tensor, " 4"]:
    """Of one row of attention: is the picture that it looks at most one with evidence, is its highest visual token one
    of the evidence, how much does its region overlap a box of evidence there, and how sure is it?"""
    visual = torch.cat([view.positions for view in views])
    if not look[visual].sum() > 0:
        return torch.zeros(4)
    place = place_of(look, views)
    point = evidence[visual[look[visual].argmax()]]
    return torch.tensor([_on_page(place.page, sample), float(point), _overlap(place.box, sample), place.sure])


def _on_page(page: int, sample: Sample) -> float:
    return float(page in {box.image for box in sample.evidence})


def _overlap(box: Box, sample: Sample) -> float:
    """With the box of evidence on its picture that it overlaps most."""
    corners = [(one.x0, one.y0, one.x1, one.y1) for one in sample.evidence if one.image == box.image]
    return max((overlap((box.x0, box.y0, box.x1, box.y1), one) for one in corners), default=0.0)


def _centre(batch: Batch, row: int) -> Float[Tensor, " 4"]:
    """The same of who always points at the middle of the first picture."""
    view = next(view for view in batch.views[row] if 0 in view.images)
    grid: Grid = view.grid
    look = torch.zeros(batch.tokens.shape[1])
    look[view.positions[grid.rows // 2 * grid.columns + grid.columns // 2]] = 1.0
    return judge(look, batch.views[row], batch.evidence[row].cpu(), batch.samples[row])


def _pointing(values: np.ndarray, several: bool, interval: partial) -> Pointing:  # type: ignore[type-arg]
    page = estimate(values[:, 0], interval) if several else None
    return Pointing(page, estimate(values[:, 1], interval), estimate(values[:, 2], interval))


def _when(core: np.ndarray, chosen: np.ndarray) -> float | None:
    """How often the top heads point at the evidence, of these samples; None if there is none."""
    return float(core[chosen, 1].mean()) if chosen.any() else None
