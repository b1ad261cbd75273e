"""Few heads dense, all others short-sighted: what is still answered, in one cell of domain, length and window.

    draw = task("documents", pages=56).draw("test", samples=2400, seed=23, questions=24)
    found = measure_trial(load("bridge-long"), draw, scores, width=256, doses=(0.05,), draws=20)
    found.choices[0].kept.loss          # the top 5 % dense against all dense, paired
    found.choices[0].matched            # accuracy with as many other heads dense, in as many key/value groups

All conditions answer the same questions. Those count whose evidence lies outside of the window of every row behind the
pictures. Questions about one set of pictures are one cluster of the intervals. A set of pictures is read once a
condition; below its first dense head, every hybrid is the one without dense heads, so those layers run once for all.

Baselines at each dose: other heads of the same layers and key/value groups, any other heads, one window for all as wide
as makes the same number of keys a row, and, where they are asked for, the best keys of every row (`oracle_topk`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from corelib.analysis.controls import random_sets
from corelib.analysis.kv_controls import kv_matched
from corelib.core.errors import BadInput, NoControl
from corelib.core.head_scores import HeadScores
from corelib.core.heads import Heads, HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.sample_store import collect
from corelib.core.values import Accuracy, AccuracyKept, ModelFacts, RankingFacts, Software, TaskFacts, WindowFacts
from corelib.experiments.answer_sweep import check_pictures, check_scores, compute_dtype
from corelib.experiments.out_of_window import PairedAccuracy, out_of_reach, sinks_and_length
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.sparse import Window, sparsify
from corelib.sparse.oracle_topk import oracle_topk
from corelib.sparse.window import mean_keys, width_for
from corelib.tasks import Draw

DEPTHS = 5  # parts of the prompt, by where the evidence stands
Opened = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class DenseChoice:
    """Some heads dense, and others in their place."""

    dose: float  # share of all heads
    heads: Heads
    keys: float  # that a row sees on average, over all heads
    kept: AccuracyKept
    matched: tuple[float, ...]  # accuracy with other heads dense, of the same layers and key/value groups, by draw
    random: tuple[float, ...]  # … with any other heads dense
    uniform: UniformChoice  # no head dense, and about as many keys
    best_keys: AccuracyKept | None = None  # every row sees as many keys, those of highest attention

    @property
    def p(self) -> float:
        """How often as many matched heads keep as much: (1 + those draws) / (1 + draws)."""
        return (1 + sum(one >= self.kept.accuracy for one in self.matched)) / (1 + len(self.matched))


@dataclass(frozen=True)
class UniformChoice:
    """One window for all heads."""

    width: int
    kept: AccuracyKept


@dataclass(frozen=True)
class AtDepth:
    """Accuracy where the evidence stands in one part of the prompt, 0 its beginning and 1 the question."""

    begins: float
    ends: float
    questions: int
    dense: float | None  # None: there is no question
    core: float | None  # at the first dose
    matched: float | None  # the mean over draws
    none: float | None


@dataclass(frozen=True, repr=False)
class Trial(Result):
    """Accuracy with few heads dense, in one cell."""

    schema: ClassVar[str] = "corelib/trial/1"

    model: ModelFacts
    task: TaskFacts  # counted: those questions whose evidence is out of reach
    ranking: RankingFacts
    window: WindowFacts
    sets: int  # of pictures, behind the questions that count
    level: float  # of all intervals
    base: Accuracy  # all dense
    none: AccuracyKept  # no head dense
    choices: tuple[DenseChoice, ...]  # the first is the headline
    depths: tuple[AtDepth, ...]
    software: Software
    seconds: float


@dataclass(frozen=True)
class _Conditions:
    """What each question is answered under: the name of a condition, what opens it, and the layer it begins at."""

    opened: list[Opened]
    begins: list[int | None]  # None: from nothing; 0: the same, and what all layers say is kept
    place: Mapping[HeadSet, int]  # of each set of dense heads

    def answer(self, vlm: VLM, batch: Batch) -> Float[Tensor, "sample condition"]:
        """Which questions are answered rightly."""
        ask, found = replay_from_prefix(vlm, batch), []
        for opened, begins in zip(self.opened, self.begins, strict=True):
            with opened():
                found.append(ask(begins or 0, keep=begins == 0).correct)
        return torch.stack(found, 1)


def measure_trial(
    vlm: VLM,
    draw: Draw,
    scores: HeadScores,
    *,
    width: int,
    doses: Sequence[float] = (0.05,),
    draws: int = 20,
    few: int = 3,
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
        best_keys: Also every row with its best keys. It needs the attention that it would save.
        level: Of the intervals.
        store: A folder where each finished set of pictures is kept; a stopped run goes on from it.
        progress: Is told how many questions are answered.

    Raises:
        BadInput: The scores are of another model or of these samples; there is one question about each picture; there
            is no dose, or a number of draws below 0; or the window reaches the evidence of nearly all samples.

    Our definition.
    """
    began = time.perf_counter()
    check_scores(vlm, scores, draw)
    check_pictures(draw)
    if draw.questions < 2:
        raise BadInput("one question about each picture: draw several (questions=8), which read the picture together")
    if not doses or min(draws, few) < 0:
        raise BadInput(f"doses={list(doses)}, draws={draws}, few={few}: give a dose or more, and draws of 0 or more")
    sinks, length = sinks_and_length(vlm, draw)
    window, total = Window(width, sinks), vlm.num_layers * vlm.num_heads
    tops = [scores.top(dose) for dose in doses]
    matched = [_matched(vlm, one, few if number else draws, draw.seed) for number, one in enumerate(tops)]
    blindly = [_blindly(vlm, one, few, draw.seed) for one in tops]
    keys = [mean_keys(len(one) / total, window, length) for one in tops]
    widths = [width_for(one, sinks, length) for one in keys]
    most = [width_for(one, 0, length) for one in keys] if best_keys else []
    sets = [HeadSet(), *tops, *(one for drawn in (*matched, *blindly) for one in drawn)]
    plan = _plan(vlm, list(dict.fromkeys(sets)), window, widths, most)
    fingerprint = {"model": vlm.sha256, "precision": compute_dtype(vlm), "window": [width, sinks], **draw.fingerprint}
    fingerprint |= {"sets": [one.to_json() for one in plan.place], "widths": widths, "best": most}

    def answer(indices: list[int]) -> dict[str, Tensor]:
        batch = vlm.encode(draw.take(indices))
        counted = out_of_reach(batch, window)
        right = torch.zeros(len(indices), len(plan.opened), dtype=torch.bool)
        if counted.any():  # the others are not asked
            mine = [sample for sample, one in zip(batch.samples, counted.tolist(), strict=True) if one]
            right[counted] = plan.answer(vlm, batch if counted.all() else vlm.encode(mine))
        return {"right": right, "counted": counted, "depth": depth_of_evidence(batch)}

    found = collect(answer, draw.samples, partial(draw.batches, draw.questions), fingerprint, store, progress)
    paired = PairedAccuracy.of(draw, found["right"], found["counted"], width=width, level=level)
    first = 1 + len(plan.place)

    def accuracies(drawn: Sequence[HeadSet]) -> tuple[float, ...]:
        return tuple(paired.accuracy(plan.place[one]) for one in drawn)

    choices = tuple(
        DenseChoice(
            dose=dose,
            heads=one,
            keys=keys[k],
            kept=paired.against(plan.place[one]),
            matched=accuracies(matched[k]),
            random=accuracies(blindly[k]),
            uniform=UniformChoice(widths[k], paired.against(first + k)),
            best_keys=paired.against(first + len(widths) + k) if most else None,
        )
        for k, (dose, one) in enumerate(zip(doses, tops, strict=True))
    )
    shown: list[int | list[int]] = [
        0,
        plan.place[tops[0]],
        [plan.place[one] for one in matched[0]],
        plan.place[HeadSet()],
    ]
    return Trial(
        model=vlm.facts,
        task=draw.facts(counted=paired.counted),
        ranking=RankingFacts(scores.task, scores.metric),
        window=WindowFacts(width, sinks, length),
        sets=len(set(paired.picture.tolist())),
        level=level,
        base=paired.stated(0),
        none=paired.against(plan.place[HeadSet()]),
        choices=choices,
        depths=_by_depth(paired.right, found["depth"][found["counted"]].double().numpy(), shown),
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


def _plan(vlm: VLM, sets: list[HeadSet], window: Window, widths: Sequence[int], most: Sequence[int]) -> _Conditions:
    """Dense; every set of dense heads, none first, which is kept; every uniform window; every number of best keys."""
    opened: list[Opened] = [nullcontext, *(partial(sparsify, vlm.model, one, window) for one in sets)]
    begins: list[int | None] = [None, *(min((head.layer for head in one), default=0) or None for one in sets)]
    begins[1] = 0
    opened += [partial(sparsify, vlm.model, HeadSet(), Window(one, window.sinks)) for one in widths]
    opened += [partial(oracle_topk, vlm.model, one) for one in most]
    begins += [None] * (len(widths) + len(most))
    return _Conditions(opened, begins, {one: 1 + number for number, one in enumerate(sets)})


def _matched(vlm: VLM, one: HeadSet, draws: int, seed: int) -> list[HeadSet]:
    if not draws:
        return []
    try:
        return kv_matched(one, vlm.num_layers, vlm.num_heads, vlm.num_kv_heads, draws=draws, seed=seed)
    except NoControl:
        return []


def _blindly(vlm: VLM, one: HeadSet, draws: int, seed: int) -> list[HeadSet]:
    if not draws or 2 * len(one) > vlm.num_layers * vlm.num_heads:
        return []
    return random_sets(one, vlm.num_layers, vlm.num_heads, draws=draws, seed=seed)


def _by_depth(right: np.ndarray, depth: np.ndarray, shown: Sequence[int | list[int]]) -> tuple[AtDepth, ...]:
    part = np.minimum((depth * DEPTHS).astype(int), DEPTHS - 1)
    table = []
    for k in range(DEPTHS):
        mine = right[:, part == k]
        means = [float(mine[one].mean()) if mine.shape[1] and one != [] else None for one in shown]
        table.append(AtDepth(k / DEPTHS, (k + 1) / DEPTHS, int(mine.shape[1]), *means))
    return tuple(table)
