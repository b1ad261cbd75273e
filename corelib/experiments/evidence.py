"""Is the evidence really the evidence? Accuracies that must be right before any RAM is read.

    base             the question with its own picture (or text)
    swapped          the same question with another sample's picture
    constant         the most frequent answer, whatever is asked: the chance level
    without          no head, at no row after the pictures, sees the evidence: should be near `constant`
    only             there, the evidence is all that any head sees of the pictures: should be near `base`

If `without` stays high, the tower or the visual rows carried the answer elsewhere, and the box is not where it is
read. If `only` falls, the box is too small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from corelib.analysis.stats import wilson
from corelib.attention.intervene import knockout
from corelib.core.errors import BadInput
from corelib.core.progress import Progress, silent
from corelib.core.values import Proportion
from corelib.models.vlm import VLM
from corelib.tasks import Draw, Sample
from corelib.tasks.draw import TOGETHER

CONDITIONS = ("base", "swapped", "without", "only")  # that ask the model
CONSTANT = 512  # samples of `select` at most, which choose the best constant answer
GREY = (128, 128, 128)


def swap_images(samples: Sequence[Sample]) -> list[Sample]:
    """Each question with the picture (or text) of the next one, which is another one; its own evidence no longer
    applies.

    Raises: BadInput if all samples are about one picture.
    """
    return [
        replace(mine, images=other.images, context=other.context, evidence=(), distractors=(), anchors=(), spans=())
        for mine, other in zip(samples, _others(samples), strict=True)
    ]


def blank_images(samples: Sequence[Sample]) -> list[Sample]:
    """Each question with grey pictures of the same sizes; its evidence is no longer there."""
    return [
        replace(
            mine,
            images=tuple(Image.new("RGB", image.size, GREY) for image in mine.images),
            evidence=(),
            distractors=(),
            anchors=(),
        )
        for mine in samples
    ]


def move_evidence(samples: Sequence[Sample]) -> list[Sample]:
    """Each sample with the evidence of the next picture: what a score says of evidence that is not there.

    Raises: BadInput if all samples are about one picture.

    >>> from corelib import task
    >>> drawn = list(task("scenes").draw("select", samples=2))
    >>> moved = move_evidence(drawn)
    >>> moved[0].evidence == drawn[1].evidence, moved[0].images == drawn[0].images
    (True, True)
    """
    return [
        replace(mine, evidence=other.evidence, spans=other.spans, distractors=(), anchors=())
        for mine, other in zip(samples, _others(samples), strict=True)
    ]


def _others(samples: Sequence[Sample]) -> list[Sample]:
    """For each sample one about the next picture."""
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(sample.cluster, sample)
    names = list(first)
    if len(names) < 2:
        raise BadInput(
            "all samples are about one picture: there is no other one to exchange it with; give more samples"
        )
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    return [first[following[sample.cluster]] for sample in samples]


def validate_evidence(
    vlm: VLM, draw: Draw, *, batch_size: int = 64, progress: Progress = silent
) -> dict[str, Proportion]:
    """Accuracy with its 95 % Wilson interval under each condition, of all samples (`without`) and by kind of question
    (`without/frame`).

    Take one question a picture: then the samples are independent, as the interval asks.
    """
    right: dict[str, list[bool]] = {name: [] for name in CONDITIONS}
    kinds: list[str] = []
    answers: list[str] = []
    for indices in draw.batches(batch_size, together=TOGETHER):
        drawn = draw.take(indices)
        batch = vlm.encode(drawn)
        right["base"] += vlm.answer(batch).correct.tolist()
        if drawn[0].images or drawn[0].context:  # else there is nothing to swap
            right["swapped"] += vlm.answer(vlm.encode(swap_images(drawn))).correct.tolist()
        kinds += [sample.kind for sample in drawn]
        answers += [sample.answer for sample in drawn]
        if drawn[0].evidence or drawn[0].spans:
            for name, hidden in (("without", batch.evidence), ("only", batch.source & ~batch.evidence)):
                with knockout(vlm.model, hidden, batch.after_image):
                    right[name] += vlm.answer(batch).correct.tolist()
        progress(len(kinds), draw.samples)
    found = {name: proportion(marks) for name, marks in right.items() if marks}
    groups = {kind: [number for number, each in enumerate(kinds) if each == kind] for kind in sorted(set(kinds))}
    found |= {
        f"{name}/{kind}": proportion([marks[number] for number in mine])
        for name, marks in right.items()
        if marks
        for kind, mine in groups.items()
    }
    found["constant"] = best_constant(answers)
    return found | {
        f"constant/{kind}": best_constant([answers[number] for number in mine]) for kind, mine in groups.items()
    }


def best_constant(answers: Sequence[str]) -> Proportion:
    """How often the most frequent answer is right.

    >>> best_constant(["1", "2", "2", "3"]).accuracy
    0.5
    """
    best = most_frequent(answers)
    return proportion([answer == best for answer in answers])


def most_frequent(answers: Iterable[str]) -> str:
    """The answer that is given most; of several, the first by name.

    >>> most_frequent(["3", "2", "3", "2"])
    '2'
    """
    ((best, _),) = Counter(sorted(answers)).most_common(1)
    return best


def measure_accuracy(vlm: VLM, draw: Draw, *, batch_size: int = 64) -> Proportion:
    """Accuracy on samples with its 95 % Wilson interval."""
    batches = (draw.take(indices) for indices in draw.batches(batch_size))
    return proportion([mark for drawn in batches for mark in vlm.answer(vlm.encode(drawn)).correct.tolist()])


@dataclass(frozen=True)
class ChanceLevels:
    """What can be had without looking. Chance is `constant`. The others are measured beside it, and are not chance:
    they depend on what a model does with a picture that does not fit."""

    answer: str  # the most frequent one on `select`
    constant: float  # how often it is right
    swapped: float  # the same questions, with another sample's picture (or text)
    blank: float | None  # with grey pictures; None: there are none


def chance_levels(vlm: VLM, draw: Draw, *, batch_size: int = 64) -> ChanceLevels:
    """The best constant answer, chosen on `select` and tested on the draw; and accuracy with another sample's picture,
    and with a grey one.

    Raises: BadInput if all samples are about one picture.

    >>> from corelib import load, task
    >>> levels = chance_levels(load("mini-s"), task("scenes").draw("test", samples=8))
    >>> 0 <= levels.constant <= 1, levels.answer.isdigit()
    (True, True)
    """
    known = draw.task.available("select", CONSTANT)
    best = most_frequent(sample.answer for sample in draw.task.draw("select", samples=known, seed=draw.seed))
    marks: dict[str, list[bool]] = {"constant": [], "swapped": [], "blank": []}
    for indices in draw.batches(batch_size, together=TOGETHER):
        drawn = draw.take(indices)
        marks["constant"] += [sample.answer == best for sample in drawn]
        marks["swapped"] += vlm.answer(vlm.encode(swap_images(drawn))).correct.tolist()
        if drawn[0].images:
            marks["blank"] += vlm.answer(vlm.encode(blank_images(drawn))).correct.tolist()
    shares = {name: float(np.mean(each)) if each else None for name, each in marks.items()}
    assert shares["constant"] is not None and shares["swapped"] is not None  # a draw has samples
    return ChanceLevels(best, shares["constant"], shares["swapped"], shares["blank"])


def proportion(marks: Sequence[bool]) -> Proportion:
    """A share of right answers with its Wilson interval, to four digits.

    >>> proportion([True] * 8 + [False] * 2)
    Proportion(accuracy=0.8, low=0.4902, high=0.9433, samples=10)
    """
    right, samples = sum(marks), len(marks)
    low, high = wilson(right, samples)
    return Proportion(round(right / samples, 4), round(low, 4), round(high, 4), samples)
