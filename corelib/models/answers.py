"""How samples were answered, the right answer teacher-forced: is every token of it the most likely one, and how likely
is it?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from corelib.core.errors import BadInput


@dataclass(frozen=True)
class AnswerScores:
    """Scores of the right answers of samples; of several conditions, such as sets of ablated heads, by condition first.

    >>> scores = AnswerScores(torch.tensor([True, False]), torch.tensor([-0.1, -2.0]))
    >>> scores.accuracy
    0.5
    """

    correct: Bool[Tensor, "*condition sample"]  # every answer token is the most likely one: greedy decoding is right
    logprob: Float[Tensor, "*condition sample"]  # mean log-probability of the answer's tokens, in nats
    predicted: tuple[str, ...] = ()  # of one condition: the most likely token at each answer row, joined
    next_tokens: Int[Tensor, "sample token"] | None = None  # of one condition: the most likely token after each answer
    # row; −1 at all other rows

    @property
    def accuracy(self) -> float:
        """The share of right answers, of one condition.

        Raises: BadInput if there are several conditions.
        """
        if self.correct.ndim != 1:
            raise BadInput(f"{len(self.correct)} conditions: take one, scores[0].accuracy")
        return self.correct.double().mean().item()

    def __getitem__(self, condition: int) -> AnswerScores:
        """One condition of several.

        Raises: BadInput if there is one alone.
        """
        if self.correct.ndim < 2:
            raise BadInput("there is one condition alone: read correct and logprob themselves")
        return AnswerScores(self.correct[condition], self.logprob[condition])


def stacked(scores: Sequence[AnswerScores]) -> AnswerScores:
    """The same samples under several conditions: `correct` and `logprob` become [condition, sample]."""
    return AnswerScores(torch.stack([one.correct for one in scores]), torch.stack([one.logprob for one in scores]))


def score_answers(
    logits: Float[Tensor, "sample row word"], targets: Int[Tensor, "sample row"], rows: Bool[Tensor, "sample row"]
) -> AnswerScores:
    """Of the marked rows: is every target the most likely word, and what is their mean log-probability?

        logprob = mean over marked rows of log softmax(logits)[target], in nats

    Both are [sample], in the dtype of the logits. At least one row of every sample must be marked.

    >>> rows = torch.tensor([[True, False]])
    >>> score_answers(torch.zeros(1, 2, 4), torch.tensor([[0, 3]]), rows).logprob.round(decimals=2)
    tensor([-1.3900])
    """
    correct = ((logits.argmax(-1) == targets) | ~rows).all(1)
    each = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return AnswerScores(correct, (each * rows).sum(1) / rows.sum(1))
