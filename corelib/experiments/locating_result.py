"""How well heads point at the evidence, as a value and as a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from corelib.core.heads import Heads
from corelib.core.results import Result
from corelib.core.values import Accuracy, Estimate, ModelFacts, Software, TaskFacts


@dataclass(frozen=True)
class Pointing:
    """How often one pointer is right."""

    page: Estimate | None  # the picture looked at most has evidence; None: there is but one picture
    point: Estimate  # the highest visual token is one of the evidence
    overlap: Estimate  # of the region around the peak with the evidence, intersection over union in pixels


@dataclass(frozen=True, repr=False)
class Locating(Result):
    """CoRe heads as a pointer to the evidence, beside other pointers."""

    schema: ClassVar[str] = "corelib/locating/1"

    model: ModelFacts
    task: TaskFacts
    ranked_on: TaskFacts
    heads: Heads
    core: Pointing
    others: dict[str, Pointing]  # all heads, those of the last layer, the centre of the first picture
    controls: dict[str, tuple[float, ...]]  # of matched and of random sets: how often each points at the evidence
    p: dict[str, float]  # how often a control does as well
    gain: Estimate  # of pointing, against all heads, paired
    accuracy: Accuracy  # of what the model wrote
    knows: dict[str, Estimate | None]  # how well a number tells right answers from wrong ones (AUROC); None: too few
    when_right: float | None  # how often the top heads point at the evidence if the answer is right,
    when_wrong: float | None  # and if it is wrong
    software: Software
    seconds: float
