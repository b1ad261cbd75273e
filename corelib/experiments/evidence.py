"""Is the evidence really the evidence? Four accuracies that must be right before any RAM is read.

    base             the question with its own picture (or text)
    swapped          the same question with another sample's picture: the chance level, measured
    without          no head, at no row after the pictures, sees the evidence: should be near `swapped`
    only             there, the evidence is all that any head sees of the pictures: should be near `base`

If `without` stays high, the tower or the visual rows carried the answer elsewhere, and the box is not where it is
read. If `only` falls, the box is too small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from corelib.analysis.stats import wilson
from corelib.attention.intervene import knockout
from corelib.models.vlm import VLM
from corelib.tasks import Sample, Task

CONDITIONS = ("base", "swapped", "without", "only")


def swap_images(samples: list[Sample]) -> list[Sample]:
    """Each question with the pictures of the next sample (its own evidence no longer applies)."""
    others = [*samples[1:], samples[0]]
    return [
        replace(mine, images=other.images, context=other.context, evidence=(), distractors=(), anchors=(), spans=())
        for mine, other in zip(samples, others, strict=True)
    ]


def move_evidence(samples: list[Sample]) -> list[Sample]:
    """Each sample with the evidence of the next one: what a score says of evidence that is not there."""
    others = [*samples[1:], samples[0]]
    return [
        replace(mine, evidence=other.evidence, spans=other.spans, distractors=(), anchors=())
        for mine, other in zip(samples, others, strict=True)
    ]


def validate_evidence(
    vlm: VLM,
    task: Task,
    *,
    split: str = "test",
    seed: int = 1,
    samples: int = 512,
    batch_size: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict]:
    """Accuracy with its 95 % Wilson interval under each condition; also by kind of question for `base`.

    Every sample is its own picture, so the samples are independent.
    """
    right: dict[str, list[bool]] = {name: [] for name in CONDITIONS}
    kinds: list[str] = []
    for drawn in task.batches(split, seed, samples, batch_size):
        encoded = vlm.encode(drawn)
        right["base"] += vlm.answer(encoded).correct.tolist()
        if drawn[0].images or drawn[0].context:  # else there is nothing to swap
            right["swapped"] += vlm.answer(vlm.encode(swap_images(drawn))).correct.tolist()
        kinds += [sample.kind for sample in drawn]
        if drawn[0].evidence or drawn[0].spans:
            for name, hidden in (("without", encoded.evidence), ("only", encoded.source & ~encoded.evidence)):
                with knockout(vlm.model, hidden, encoded.after_image):
                    right[name] += vlm.answer(encoded).correct.tolist()
        progress(len(kinds), samples)
    found = {name: proportion(marks) for name, marks in right.items() if marks}
    for kind in sorted(set(kinds)):
        mine = [mark for mark, each in zip(right["base"], kinds, strict=True) if each == kind]
        found[f"base/{kind}"] = proportion(mine)
    return found


def measure_accuracy(vlm: VLM, task: Task, *, split: str, seed: int, samples: int, batch_size: int = 64) -> dict:
    """Accuracy on a task with its 95 % Wilson interval."""
    marks: list[bool] = []
    for drawn in task.batches(split, seed, samples, batch_size):
        marks += vlm.answer(vlm.encode(drawn)).correct.tolist()
    return proportion(marks)


def proportion(marks: list[bool]) -> dict:
    right, samples = sum(marks), len(marks)
    low, high = wilson(right, samples)
    rounded = {"accuracy": round(right / samples, 4), "low": round(low, 4), "high": round(high, 4)}
    return {**rounded, "samples": samples}
