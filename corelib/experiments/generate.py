"""Let a model write its answers, and judge them by the task's rule: the same text, the same option, boxes that overlap.

    found = generate_answers(load("mini-s"), task("scenes").draw("test", samples=64))
    found.accuracy, found.texts[0]              # accuracy with its interval; what the model wrote first

Everywhere else an answer is right if its very tokens are the most likely ones (`VLM.answer`): one pass tells, and
ablations need thousands of them. Where an answer can be put in many ways, ask here first whether the model can do the
task at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from corelib.core.entries import check_whole
from corelib.core.progress import Progress, silent
from corelib.core.values import Proportion
from corelib.experiments.evidence import proportion
from corelib.models.vlm import VLM
from corelib.tasks import Draw
from corelib.tasks.scoring import score_sample


@dataclass(frozen=True)
class Generations:
    """What a model wrote, sample by sample, and whether it was right."""

    rule: str
    texts: tuple[str, ...]
    right: tuple[bool, ...]

    @property
    def accuracy(self) -> Proportion:
        """The share that was right, with Wilson's interval: one question about each picture."""
        return proportion(self.right)


def generate_answers(
    vlm: VLM, draw: Draw, *, tokens: int = 32, batch_size: int | None = None, progress: Progress = silent
) -> Generations:
    """Let the model write at most so many `tokens` to each sample, greedily, `batch_size` samples at once.

    Raises: BadInput if `tokens` or `batch_size` is below 1.
    """
    batch_size = vlm.batch_size if batch_size is None else batch_size
    check_whole("tokens", tokens, 1)
    texts, right, rule = [], [], draw.task.rule
    for indices in draw.batches(batch_size):
        drawn = draw.take(indices)
        mine = vlm.generate(vlm.encode(drawn, answers=False), tokens)
        texts += mine
        right += [score_sample(text, sample, rule) == 1 for text, sample in zip(mine, drawn, strict=True)]
        progress(len(texts), draw.samples)
    return Generations(rule, tuple(texts), tuple(right))
