"""Which other object could a question have asked about? The pairs that redirection moves the gaze between.

    pairs = rival_pairs(task("scenes").draw("test", samples=8, questions=4))
    pairs[0].sample.question, pairs[0].rival.question          # about one picture, with two answers

The rival of a question is the next one of its kind about the same picture that has another answer, which stands
elsewhere. A question without one is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from corelib.experiments.answer_parts import answer_parts
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.tasks.sample import Sample


@dataclass(frozen=True)
class RivalPair:
    """A question, and another one about the same picture, to whose evidence the gaze goes."""

    index: int  # of the sample among those that were given
    sample: Sample
    rival: Sample


def rival_pairs(samples: Sequence[Sample]) -> list[RivalPair]:
    """Each sample with its rival; those about one picture go round.

    >>> from corelib.tasks import task
    >>> drawn = task("scenes").questions_for("test", 0, 0, 4)
    >>> [(pair.sample.answer, pair.rival.answer) for pair in rival_pairs(drawn)]
    [('0', '1'), ('1', '7'), ('7', '0')]
    """
    about: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        about.setdefault(sample.cluster, []).append(index)
    found = []
    for mine in about.values():
        for place, index in enumerate(mine):
            sample = samples[index]
            others = (samples[k] for k in (*mine[place + 1 :], *mine[:place]))
            rival = next((one for one in others if _is_rival(sample, one)), None)
            if rival is not None:
                found.append(RivalPair(index, sample, rival))
    return sorted(found, key=lambda pair: pair.index)


def _is_rival(sample: Sample, other: Sample) -> bool:
    elsewhere = not set(sample.evidence) & set(other.evidence) and not set(sample.spans) & set(other.spans)
    return other.kind == sample.kind and other.answer != sample.answer and elsewhere


@dataclass(frozen=True)
class Asked:
    """A batch of pairs with one of both answers behind the question, and where its regions lie in it."""

    batch: Batch
    evidence: Bool[Tensor, "sample part token"]
    target: Bool[Tensor, "sample part token"]

    @classmethod
    def of(cls, vlm: VLM, pairs: Sequence[RivalPair], *, rivals: bool = False) -> Asked:
        """Encode the pairs with their own answers, or with those of their rivals.

        Where an answer has several tokens, and the grid tells their parts of the evidence apart in both regions, each
        part has its own mask; else there is one.
        """
        own = [replace(one.sample, answer=one.rival.answer) if rivals else one.sample for one in pairs]
        there = [
            replace(one, evidence=pair.rival.evidence, spans=pair.rival.spans)
            for one, pair in zip(own, pairs, strict=True)
        ]
        batch, goal = vlm.encode(own), vlm.encode(there)
        (mine, all_mine), (theirs, all_theirs) = answer_parts(batch), answer_parts(goal)
        parts, complete = (mine, theirs), all_mine & all_theirs
        whole = [torch.zeros_like(one) for one in parts]
        for mask, one in zip(whole, (batch, goal), strict=True):
            mask[:, 0] = one.evidence
        return cls(batch, *(torch.where(complete[:, None, None], *each) for each in zip(parts, whole, strict=True)))

    @property
    def apart(self) -> Bool[Tensor, " sample"]:
        """Whose evidence and target share no token."""
        return ~(self.evidence.any(1) & self.target.any(1)).any(-1)
