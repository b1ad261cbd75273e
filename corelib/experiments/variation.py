"""Is it the template? The same heads, where questions, fonts, backgrounds or the number of things are other ones.

    found = vary(vlm, work, scores, ranked_on=select, tested_on=test)
    found.moved.value, found.spearman            # by the old ranking; old ranking against new

The heads that were ranked on the usual samples are tested on unusual ones: what moving their gaze does, and whether a
ranking on such samples would have been another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from corelib.analysis.agreement import compare_heads
from corelib.analysis.stats import bootstrap_interval, estimate
from corelib.core.head_scores import HeadScores
from corelib.core.heads import Heads, HeadSet
from corelib.core.results import Result, software
from corelib.core.values import Accuracy, Estimate, ModelFacts, Software, TaskFacts
from corelib.experiments.answer_sweep import compute_dtype
from corelib.experiments.reach import within_reach
from corelib.experiments.redirecting import Intervention, redirect_sweep
from corelib.experiments.score_heads import score_heads
from corelib.models.vlm import VLM
from corelib.tasks import Draw


@dataclass(frozen=True, repr=False)
class Variation(Result):
    """One way in which samples are unusual."""

    schema: ClassVar[str] = "corelib/variation/1"

    model: ModelFacts
    task: TaskFacts  # tested on; counted: questions with a rival that are answered rightly
    ranked_on: TaskFacts  # anew
    accuracy: Accuracy
    old: Heads  # the top by the usual ranking,
    new: Heads  # and by the new one
    spearman: float
    within_layers: float
    moved: Estimate | None  # by the old top; None: fewer than two questions are answered rightly
    moved_new: Estimate | None
    others: Estimate | None  # by all heads but the old top
    software: Software
    seconds: float

    @property
    def shared(self) -> HeadSet:
        """What both tops have."""
        return self.old & self.new


def vary(vlm: VLM, scores: HeadScores, ranked_on: Draw, tested_on: Draw, *, fraction: float = 0.05) -> Variation:
    """Test the top of `scores` on `tested_on`, and rank anew on `ranked_on`, two draws of one unusual task.

    Raises: BadInput as `score_heads` and `redirect_sweep`.
    """
    began = time.perf_counter()
    right = estimate(_correct(vlm, tested_on), partial(bootstrap_interval, clusters=tested_on.clusters))
    scores, again = (within_reach(vlm, tested_on, one) for one in (scores, score_heads(vlm, ranked_on)))
    agreement = compare_heads(scores, again, fraction)
    old, new = scores.top(fraction), again.top(fraction)
    every = HeadSet(scores.order())
    plan = {"old": Intervention(old), "new": Intervention(new), "others": Intervention(every - old)}
    swept = redirect_sweep(vlm, tested_on, plan)
    counted = swept["paired"] & swept["right"]
    clusters = [one for one, counts in zip(tested_on.clusters, counted, strict=True) if counts]
    interval = partial(bootstrap_interval, clusters=clusters, seed=tested_on.seed)
    enough = len(set(clusters)) >= 2

    def moved(number: int) -> Estimate | None:
        return estimate(swept["moved"][counted, number].astype(np.float64), interval) if enough else None

    return Variation(
        model=vlm.facts,
        task=tested_on.facts(questions=tested_on.questions, counted=int(counted.sum())),
        ranked_on=again.task,
        accuracy=Accuracy.of(right),
        old=old,
        new=new,
        spearman=agreement.spearman,
        within_layers=agreement.spearman_within_layers,
        moved=moved(0),
        moved_new=moved(1),
        others=moved(2),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def _correct(vlm: VLM, draw: Draw) -> Float[np.ndarray, " sample"]:
    """Which samples are answered rightly."""
    correct = np.zeros(draw.samples)
    for indices in draw.batches(64):
        correct[indices] = vlm.answer(vlm.encode(draw.take(indices))).correct.double().cpu().numpy()
    return correct
