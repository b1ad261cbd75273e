"""What `head_story.py` tells of one head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from corelib.core.heads import Heads
from corelib.core.html import card, rows
from corelib.core.results import Result
from corelib.core.values import Accuracy, Estimate, ModelFacts, Software, TaskFacts


@dataclass(frozen=True)
class Restored:
    """How often the whole answer is right."""

    plain: Accuracy
    without: Accuracy  # the head is silent
    put_back: Accuracy  # and the outputs of the retrieving heads are as in the plain pass


@dataclass(frozen=True)
class Patched:
    """Outputs at the question's rows come from a prompt that differs in one word."""

    pairs: int  # that count: answered rightly without it
    moved: Estimate  # the answer's first token becomes the other prompt's
    stayed: Estimate
    others: dict[str, float]  # moved by each other head of the layer
    whole_layer: float  # by all of them together


@dataclass(frozen=True, repr=False)
class HeadStory(Result):
    """One head in one task."""

    schema: ClassVar[str] = "corelib/head-story/1"

    model: ModelFacts
    task: TaskFacts
    head: Heads  # one
    looks: dict[str, dict[str, float]]  # of each kind of row, the attention on each kind of key
    writes: tuple[tuple[float, int], ...]  # of each answer token: logits added to the right one, place among all heads
    plain: tuple[Accuracy, ...]  # of each answer token, those before it being given
    without: tuple[Accuracy, ...]
    repeats: tuple[tuple[float, ...], ...]  # without it, how often token i is said to be the answer's token j
    stops: dict[str, tuple[float, float]]  # RAM of each retrieving head: plain, and without this head
    restored: Restored
    patched: Patched | None
    software: Software
    seconds: float
    kind: str | None = None  # of question; None: all

    def __repr__(self) -> str:
        return f"HeadStory({self.head} of {self.model.shown} on {self.task.shown})"

    def _repr_html_(self) -> str:
        table = [
            (row, "  ".join(f"{key} {share:.2f}" for key, share in keys.items())) for row, keys in self.looks.items()
        ]
        return card(
            f"{self.head} of {self.model.shown} on {self.task.shown}",
            rows(table, ("rows", "look at")),
            rows([("right, plain", self.restored.plain), ("without it", self.restored.without)]),
        )
