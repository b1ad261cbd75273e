"""Let a model write its answers, and judge them by the task's rule: the same text, the same option, boxes that overlap.

    found = write_answers(load("mini-s"), task("scenes"), samples=64)
    found.stated, found.texts[0]                # accuracy with its interval; what the model wrote first

Everywhere else an answer is right if its very tokens are the most likely ones (`VLM.answer`): one pass tells, and
ablations need thousands of them. Where an answer can be put in many ways, ask here first whether the model can do the
task at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corelib.analysis.stats import wilson
from corelib.core.errors import BadInput
from corelib.models.vlm import VLM
from corelib.tasks import Task
from corelib.tasks.scoring import score_answer


@dataclass(frozen=True)
class Generations:
    """What a model wrote, sample by sample, and whether it was right."""

    rule: str
    texts: tuple[str, ...]
    right: tuple[bool, ...]

    @property
    def stated(self) -> dict[str, float]:
        """Accuracy with Wilson's interval: one question about each picture."""
        low, high = wilson(sum(self.right), len(self.right))
        return {"accuracy": sum(self.right) / len(self.right), "low": low, "high": high}


def generate_answers(
    vlm: VLM,
    task: Task,
    *,
    split: str = "select",
    seed: int = 0,
    samples: int = 64,
    tokens: int = 32,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Generations:
    """Let the model write at most so many `tokens` to each sample, greedily, `batch` samples at once."""
    batch_size = vlm.batch_size if batch_size is None else batch_size
    if min(samples, tokens, batch_size) < 1:
        raise BadInput(f"samples={samples}, tokens={tokens}, batch={batch_size}: give 1 or more of each")
    texts, right = [], []
    for drawn in task.batches(split, seed, samples, batch_size):
        mine = vlm.generate(vlm.encode(drawn, answers=False), tokens)
        texts += mine
        right += [score_answer(text, sample.answer, task.rule) == 1 for text, sample in zip(mine, drawn, strict=True)]
        progress(len(texts), samples)
    return Generations(task.rule, tuple(texts), tuple(right))
