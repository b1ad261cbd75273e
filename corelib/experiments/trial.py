"""Few heads dense, all others short-sighted: what is still answered, in one cell of domain, length and window.

    draw = task("documents", pages=56).draw("test", samples=2400, seed=23, questions=24)
    found = measure_trial(load("bridge-long"), draw, scores, width=256, doses=(0.05,), draws=20, few_on=600)
    found.choices[0].kept.loss          # the top 5 % dense against all dense, paired
    found.choices[0].matched            # accuracy with as many other heads dense, in as many key/value groups

Those questions count whose evidence lies outside of the window of every row behind the pictures. Questions about one
set of pictures are one cluster of the intervals. A set of pictures is read once a condition; below its first dense
head, every hybrid is the one without dense heads, so those layers run once for all.

Baselines at each dose: other heads of the same layers and key/value groups, any other heads, one window for all as wide
as makes the same number of keys a row, and, where they are asked for, the best keys of every row (`oracle_topk`).

Four conditions make the headline, and all questions are answered under them: dense, no head dense, the first dose, and
one window for all. The others may be tried on the first questions alone, and are compared on these.
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
from corelib.analysis.kv_controls import kv_matched
from corelib.core.errors import BadInput, NoControl
from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import software
from corelib.core.sample_store import collect
from corelib.core.values import RankingFacts, WindowFacts
from corelib.experiments.answer_sweep import check_pictures, check_scores, compute_dtype
from corelib.experiments.out_of_window import PairedAccuracy, out_of_reach, sinks_and_length
from corelib.experiments.reach import within_reach
from corelib.experiments.trial_conditions import DENSE, NONE, answer_trial, list_conditions
from corelib.experiments.trial_result import AtDepth, DenseChoice, Trial, UniformChoice
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.sparse import Window
from corelib.sparse.window import mean_keys, width_for
from corelib.tasks import Draw

DEPTHS = 5  # parts of the prompt, by where the evidence stands


def measure_trial(
    vlm: VLM,
    draw: Draw,
    scores: HeadScores,
    *,
    width: int,
    doses: Sequence[float] = (0.05,),
    draws: int = 20,
    few: int = 3,
    few_on: int | None = None,
    best_keys: bool = False,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Trial:
    """Answer questions with the first heads of a ranking dense, at each of the `doses`; the first one is the headline.

    Args:
        vlm: The model.
        draw: Several questions about each picture, or row of pictures.
        scores: The ranking, of other samples.
        width: Keys that all other heads see, up to their own, beside the tokens before the first picture.
        doses: Shares of all heads.
        draws: Matched sets at the first dose.
        few: Matched sets at the other doses, and sets of any heads at each (0: none).
        few_on: Samples, the first of the draw, on which all is tried that is not the headline (None: all).
        best_keys: Also every row with its best keys. It needs the attention that it would save.
        level: Of the intervals.
        store: A folder where each finished set of pictures is kept; a stopped run goes on from it.
        progress: Is told how many questions are answered.

    Raises:
        BadInput: The scores are of another model or of these samples; there is one question about each picture; there
            is no dose, a number of draws below 0, or samples that the draw has not; or the window reaches the evidence
            of nearly all samples.

    Our definition.
    """
    began = time.perf_counter()
    check_scores(vlm, scores, draw)
    scores = within_reach(vlm, draw, scores, draw.questions)
    check_pictures(draw)
    if draw.questions < 2:
        raise BadInput("one question about each picture: draw several (questions=8), which read the picture together")
    if not doses or min(draws, few) < 0:
        raise BadInput(f"doses={list(doses)}, draws={draws}, few={few}: give a dose or more, and draws of 0 or more")
    few_on = draw.samples if few_on is None else few_on
    if not draw.questions <= few_on <= draw.samples:
        raise BadInput(f"few_on={few_on}: give from {draw.questions} (one set of pictures) to {draw.samples} samples")
    sinks, length = sinks_and_length(vlm, draw)
    window, total = Window(width, sinks), vlm.num_layers * vlm.num_heads
    tops = [scores.top(dose) for dose in doses]
    matched = [_matched(vlm, one, few if number else draws, draw.seed) for number, one in enumerate(tops)]
    blindly = [_blindly(vlm, one, scores.layers, few, draw.seed) for one in tops]
    keys = [mean_keys(len(one) / total, window, length) for one in tops]
    widths = [width_for(one, sinks, length) for one in keys]
    most = [width_for(one, 0, length) for one in keys] if best_keys else []
    controls = [one for drawn in (*matched, *blindly) for one in drawn]
    conditions = list_conditions(vlm, tops, controls, window, widths, most)
    place = {name: number for number, name in enumerate(conditions)}
    fingerprint = {"model": vlm.sha256, "precision": compute_dtype(vlm), "window": [width, sinks], **draw.fingerprint}
    sets = [one.to_json() for one in conditions if isinstance(one, HeadSet)]
    fingerprint |= {"sets": sets, "widths": widths, "best": most, "few": few_on}

    def answer(indices: list[int]) -> dict[str, Tensor]:
        batch = vlm.encode(draw.take(indices))
        counted, among = out_of_reach(batch, window), torch.tensor(indices) < few_on
        right = torch.zeros(len(indices), len(conditions), dtype=torch.bool)
        if counted.any():  # the others are not asked
            mine = [sample for sample, one in zip(batch.samples, counted.tolist(), strict=True) if one]
            asked = batch if counted.all() else vlm.encode(mine)
            right[counted] = answer_trial(vlm, asked, conditions.values(), all_of_them=bool(among.any()))
        return {"right": right, "counted": counted, "few": among, "depth": depth_of_evidence(batch)}

    found = collect(answer, draw.samples, partial(draw.batches, draw.questions), fingerprint, store, progress)
    pair = partial(PairedAccuracy.of, draw, found["right"], width=width, level=level)
    whole, among_few = pair(found["counted"]), pair(found["counted"] & found["few"])

    def accuracies(drawn: Sequence[HeadSet]) -> tuple[float, ...]:
        return tuple(among_few.accuracy(place[one]) for one in drawn)

    choices = []
    for k, (dose, one) in enumerate(zip(doses, tops, strict=True)):
        paired = among_few if k else whole
        choices.append(
            DenseChoice(
                dose=dose,
                heads=one,
                keys=keys[k],
                kept=paired.against(place[one]),
                beside=among_few.accuracy(place[one]),
                matched=accuracies(matched[k]),
                random=accuracies(blindly[k]),
                uniform=UniformChoice(widths[k], paired.against(place["window", widths[k]])),
                best_keys=among_few.against(place["best keys", most[k]]) if most else None,
            )
        )
    depth = found["depth"][found["counted"]].double().numpy()
    few_of_them = found["few"][found["counted"]].numpy()
    shown = [whole.right[place[one]] for one in (DENSE, tops[0])]
    drawn = [whole.right[place[one]] for one in matched[0]]
    shown.append(np.where(few_of_them, np.mean(drawn, 0), np.nan) if drawn else np.full(len(depth), np.nan))
    shown.append(whole.right[place[NONE]])
    return Trial(
        model=replace(vlm.facts, reach=scores.model.reach),
        task=draw.facts(counted=whole.counted),
        ranking=RankingFacts(scores.task, scores.metric),
        window=WindowFacts(width, sinks, length),
        sets=len(set(whole.picture.tolist())),
        few=among_few.counted,
        level=level,
        base=whole.stated(place[DENSE]),
        none=whole.against(place[NONE]),
        choices=tuple(choices),
        depths=_by_depth(shown, depth),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def depth_of_evidence(batch: Batch) -> Float[Tensor, " sample"]:
    """Where the last token of each sample's evidence stands: its place over the place of the first row behind the
    pictures, both from the first token of the sequence. Between 0 and 1, float32, on the CPU."""
    places = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    begins, behind = batch.real.int().argmax(1), batch.after_image.int().argmax(1)
    last = torch.where(batch.evidence, places, -1).amax(1)
    return ((last - begins).float() / (behind - begins)).cpu()


def _matched(vlm: VLM, one: HeadSet, draws: int, seed: int) -> list[HeadSet]:
    if not draws:
        return []
    try:
        return kv_matched(one, vlm.num_layers, vlm.num_heads, vlm.num_kv_heads, draws=draws, seed=seed)
    except NoControl:
        return []


def _blindly(vlm: VLM, one: HeadSet, reach: Sequence[int], draws: int, seed: int) -> list[HeadSet]:
    if not draws or 2 * len(one) > len(reach) * vlm.num_heads:
        return []
    return random_sets(one, vlm.num_layers, vlm.num_heads, draws=draws, seed=seed, reach=reach)


def _by_depth(
    shown: Sequence[Float[np.ndarray, " sample"]], depth: Float[np.ndarray, " sample"]
) -> tuple[AtDepth, ...]:
    """Means of what is shown in each part; NaN is what was not answered."""
    part = np.minimum((depth * DEPTHS).astype(int), DEPTHS - 1)
    table = []
    for k in range(DEPTHS):
        mine = [values[part == k] for values in shown]
        means = [float(np.nanmean(one)) if (~np.isnan(one)).any() else None for one in mine]
        table.append(AtDepth(k / DEPTHS, (k + 1) / DEPTHS, int((part == k).sum()), *means))
    return tuple(table)
