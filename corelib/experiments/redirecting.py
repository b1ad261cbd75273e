"""Answer pairs of questions under one redirection after the other: what `redirection.py` counts.

under = Redirecting.of(vlm, draw, rival_pairs(draw.take(range(8))))
moved, stayed, applies = under(Intervention(HeadSet("L4H0"), rows="after"))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from corelib.attention.redirect import Strength, redirect
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.sample_store import collect
from corelib.experiments.answer_sweep import compute_dtype
from corelib.experiments.rivals import Asked, RivalPair, rival_pairs
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.from_question import Replay, replay_from_question
from corelib.tasks import Draw
from corelib.tasks.draw import TOGETHER


@dataclass(frozen=True)
class Intervention:
    """One condition: whose attention goes from where to where, at which rows, and how strongly."""

    heads: HeadSet
    rows: str = "after"  # the pictures; or `answer`: rows that predict it; or one row of the prompt: −1 is the last
    strength: Strength = "mass-preserving"
    source: str = "evidence"  # or a `distractor`
    goal: str = "target"  # or `empty` places


Told = tuple[Bool[Tensor, " sample"], Bool[Tensor, " sample"], Bool[Tensor, " sample"]]


@dataclass(frozen=True)
class Redirecting:
    """Pairs with their own answers, and, where answers have several tokens, with those of their rivals."""

    vlm: VLM
    own: Asked
    answer: Replay
    other: Asked
    answer_other: Replay | None  # None: answers are one token, and one pass tells both
    empty: Callable[[], Bool[Tensor, "sample token"]]  # where nothing is, in `own`; drawn when it is asked for

    @classmethod
    def of(cls, vlm: VLM, draw: Draw, pairs: Sequence[RivalPair]) -> Redirecting:
        """Read the pairs once, without any program."""
        own, other = Asked.of(vlm, pairs), Asked.of(vlm, pairs, rivals=True)
        single = all(bool((one.batch.lengths[:, 2] == 1).all()) for one in (own, other))
        again = None if single else replay_from_question(vlm, other.batch)
        return cls(
            vlm, own, replay_from_question(vlm, own.batch), other, again, cache(partial(_empty, draw, own.batch))
        )

    def plain(self) -> Bool[Tensor, " sample"]:
        """Which are answered rightly without any program."""
        return self.answer().correct

    def __call__(self, one: Intervention) -> Told:
        """Which answers have moved to the rival's, which stayed, and to which samples the condition applies."""
        first = min((head.layer for head in one.heads), default=0)
        program, applies = self._program(one, self.own)
        with program:
            here = self.answer(first)
        assert here.guesses is not None  # replays give them
        begun = here.guesses[:, 0] == self._first_tokens()  # no answer is the rival's that does not begin like it
        if self.answer_other is None or not begun.any():
            return begun, here.correct, applies
        with self._program(one, self.other)[0]:
            return self.answer_other(first).correct, here.correct, applies

    def logprob(self, one: Intervention | None = None) -> Float[Tensor, " sample"]:
        """The log-probability of the own answers under a condition, or without any program."""
        if one is None:
            return self.answer().logprob
        with self._program(one, self.own)[0]:
            return self.answer(min((head.layer for head in one.heads), default=0)).logprob

    def _first_tokens(self) -> Int[Tensor, " sample"]:
        """How the rivals' answers begin: the token behind the last one of the prompt."""
        return self.other.batch.tokens[self.other.batch.rows("last").roll(1, 1)].cpu()

    def _program(self, one: Intervention, asked: Asked) -> tuple[AbstractContextManager[None], Bool[Tensor, " sample"]]:
        evidence, target = asked.evidence, asked.target
        if one.source == "distractor":
            evidence, target = _distractor(asked)[:, None], target.any(1, keepdim=True)
        if one.goal == "empty":
            evidence, target = evidence.any(1, keepdim=True), self._aligned(asked)[:, None]
        applies = evidence.flatten(1).any(1) & target.flatten(1).any(1)
        evidence = evidence & applies[:, None, None]
        rows = _rows(asked.batch, one.rows)
        return redirect(self.vlm.model, one.heads, evidence, target, rows, strength=one.strength), applies.cpu()

    def _aligned(self, asked: Asked) -> Bool[Tensor, "sample token"]:
        """The empty places as they lie in a batch whose answers may have another length."""
        found = torch.zeros_like(asked.batch.visual)
        for row, (mine, there) in enumerate(zip(self.own.batch.visual, asked.batch.visual, strict=True)):
            found[row, there] = self.empty()[row, mine]
        return found


def _rows(batch: Batch, name: str) -> Bool[Tensor, "sample token"]:
    if name == "after":
        return batch.after_image
    return batch.rows("answer") if name == "answer" else batch.rows("last").roll(int(name) + 1, 1)


def _distractor(asked: Asked) -> Bool[Tensor, "sample token"]:
    """One distractor of each sample, without the target's tokens; none where there is no other."""
    free = asked.batch.distractors & ~(asked.target | asked.evidence).any(1)[:, None]
    found = torch.zeros_like(asked.batch.visual)
    for row, regions in enumerate(free):
        there = regions.any(1).nonzero()
        if len(there):
            found[row] = regions[int(there[0])]
    return found


def _empty(draw: Draw, batch: Batch) -> Bool[Tensor, "sample token"]:
    """The visual tokens of which nothing that could be asked about takes a part; none in a text."""
    taken = []
    for sample in batch.samples:
        picture, _ = draw.task.draw_picture(sample.split, sample.seed, sample.index)
        taken.append([box for one in picture.questions for box in (*one.evidence, *one.anchors, *one.distractors)])
    return batch.visual & ~batch.cover(taken)


def redirect_sweep(
    vlm: VLM,
    draw: Draw,
    plan: dict[str, Intervention],
    *,
    batch_size: int = 32,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> dict[str, np.ndarray]:
    """Every sample of `draw` under every condition of `plan`: is it `paired`, and is it `right` without any program;
    and [sample, condition], has its answer `moved`, has it `stayed`, and does the condition apply to it (`applies`)?
    """
    fingerprint = {
        "model": vlm.sha256,
        "precision": compute_dtype(vlm),
        **draw.fingerprint,
        "plan": {name: [one.heads.to_json(), *list(vars(one).values())[1:]] for name, one in plan.items()},
    }

    def measure(indices: list[int]) -> dict[str, Tensor]:
        pairs = rival_pairs(draw.take(indices))
        found = {name: torch.zeros(len(indices), dtype=torch.bool) for name in ("paired", "right")}
        found |= {
            name: torch.zeros(len(indices), len(plan), dtype=torch.bool) for name in ("moved", "stayed", "applies")
        }
        if pairs:
            apart = Asked.of(vlm, pairs).apart
            pairs = [pair for pair, one in zip(pairs, apart.tolist(), strict=True) if one]
        if pairs:
            places = torch.tensor([pair.index for pair in pairs])
            under = Redirecting.of(vlm, draw, pairs)
            found["paired"][places], found["right"][places] = True, under.plain()
            for number, one in enumerate(plan.values()):
                told = under(one)
                for name, value in zip(("moved", "stayed", "applies"), told, strict=True):
                    found[name][places, number] = value
        return found

    batches = partial(draw.batches, batch_size, together=TOGETHER)
    kept = collect(measure, draw.samples, batches, fingerprint, store, progress)
    return {name: value.numpy() for name, value in kept.items()}
