"""How samples were answered, the right answer teacher-forced: is every token of it the most likely one, and how likely
is it?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from corelib.core.errors import BadInput, NotFinite

INSTEAD = (
    "use float32 or bfloat16, whose range is larger (dtype='float32', --dtype float32)"  # of a dtype that overflows
)


@dataclass(frozen=True)
class AnswerScores:
    """Scores of the right answers of samples; of several conditions, such as sets of ablated heads, by condition first.

    Replays return theirs on the CPU, `VLM.answer` where the model computes; log-probabilities are float32.

    >>> scores = AnswerScores(torch.tensor([True, False]), torch.tensor([-0.1, -2.0]))
    >>> scores.accuracy
    0.5
    """

    correct: Bool[Tensor, "*condition sample"]  # every answer token is the most likely one: greedy decoding is right
    logprob: Float[Tensor, "*condition sample"]  # mean log-probability of the answer's tokens, in nats
    predicted: tuple[str, ...] = ()  # of one condition: the most likely token at each answer row, joined
    next_tokens: Int[Tensor, "sample token"] | None = None  # of one condition: the most likely token after each answer
    # row; −1 at all other rows
    guesses: Int[Tensor, "*condition sample row"] | None = None  # of replays: the same, at the answer rows alone

    @property
    def accuracy(self) -> float:
        """The share of right answers, of one condition.

        Raises:
            BadInput: There are several conditions.
        """
        if self.correct.ndim != 1:
            raise BadInput(f"{len(self.correct)} conditions: take one, scores[0].accuracy")
        return self.correct.double().mean().item()

    def __getitem__(self, condition: int) -> AnswerScores:
        """One condition of several.

        Raises:
            BadInput: There is one condition alone.
        """
        if self.correct.ndim < 2:
            raise BadInput("there is one condition alone: read correct and logprob themselves")
        guesses = None if self.guesses is None else self.guesses[condition]
        return AnswerScores(self.correct[condition], self.logprob[condition], guesses=guesses)


def stacked(scores: Sequence[AnswerScores]) -> AnswerScores:
    """The same samples under several conditions: [condition, sample], on the device of the first.

    >>> one = AnswerScores(torch.tensor([True, False]), torch.tensor([-0.1, -2.0]))
    >>> stacked([one, one, one]).correct.shape
    torch.Size([3, 2])
    """
    return AnswerScores(torch.stack([one.correct for one in scores]), torch.stack([one.logprob for one in scores]))


def score_answers(
    logits: Float[Tensor, "sample row word"], targets: Int[Tensor, "sample row"], rows: Bool[Tensor, "sample row"]
) -> AnswerScores:
    """Of the marked rows: is every target the most likely word, and what is their mean log-probability?

        correct = ∀ row: argmax(logits[row]) = target[row]
        logprob = mean over rows of log softmax(logits[row])[target[row]], in nats

    Args:
        logits: In float32, or else they lose digits here; those of rows that are not marked may be anything.
        targets: What the rows should predict.
        rows: Which count; at least one a sample.

    Returns:
        One number a sample, on the device of the logits.

    Raises:
        NotFinite: A marked row has logits that are infinite or not a number.

    >>> score_answers(torch.zeros(1, 2, 4), torch.tensor([[0, 1]]), torch.tensor([[True, False]])).logprob
    tensor([-1.3863])
    """
    guesses = logits.argmax(-1)
    correct = ((guesses == targets) | ~rows).all(1)
    each = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    if not each[rows].isfinite().all():
        raise NotFinite(f"the logits of an answer are not finite: {INSTEAD}")
    return AnswerScores(correct, each.masked_fill(~rows, 0).sum(1) / rows.sum(1), guesses=guesses)
