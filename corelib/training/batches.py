"""Training batches: one picture, several questions about it (or none), then a caption, in one packed sequence.

    ▦ digit on red square ? 7 <|im_end|> digit left of blue star ? 3 <|im_end|> list : red square 7 …

The loss falls on the answers and, with a smaller weight, on the caption. The caption is what makes a tiny model
see: it asks for every object at once.

Each of these is a turn. A mini model reads them one after another. The bridge reads each turn as if it were the first
(`Batch.apart`): earlier answers cannot be copied, nor ruled out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from corelib.families.bundled import Processor
from corelib.mini.vocabulary import token_id
from corelib.tasks import Picture, Task

ANSWER, CAPTION = 1, 2


@dataclass(frozen=True)
class TrainingBatch:
    """Packed sequences as model inputs, and which of their tokens are learned."""

    inputs: dict[str, Tensor]
    roles: Int[Tensor, "batch token"]  # 0: not learned, ANSWER, CAPTION; of the token itself
    turns: Int[Tensor, "batch token"]  # 0: what stands before the first question, k: the k-th turn, -1: padding
    end: int  # the token that closes an answer: learned, but not counted as a right answer

    def to(self, device: torch.device) -> TrainingBatch:
        inputs = {key: value.to(device) for key, value in self.inputs.items()}
        return replace(self, inputs=inputs, roles=self.roles.to(device), turns=self.turns.to(device))

    @property
    def labels(self) -> Int[Tensor, "batch token"]:
        return self.inputs["input_ids"]

    @property
    def learned(self) -> Bool[Tensor, "batch row"]:
        """The rows whose next token is learned; the last row has none, and is left out."""
        return self.roles[:, 1:] > 0

    def apart(self) -> dict[str, Tensor]:
        """The inputs of a model that reads each turn as if it stood alone behind the picture: a mask, [batch, 1, token,
        token], 0 where a token sees another and very negative where not; and positions that begin anew."""
        mine = self.turns[:, :, None] == self.turns[:, None, :]
        seen = (mine | (self.turns[:, None, :] == 0)).tril()
        mask = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, torch.finfo(torch.float32).min)
        position = (seen.sum(-1) - 1) * (self.turns >= 0)
        return {**self.inputs, "attention_mask": mask[:, None], "position_ids": position}

    def loss(self, logits: Float[Tensor, "learned word"], caption_weight: float) -> tuple[Tensor, float]:
        """Cross-entropy of answers + `caption_weight` · captions, and the share of answers that were right (of
        caption tokens, if nothing was asked), from the logits at the learned rows. An answer is right if all its
        tokens are, the closing one aside."""
        learned = self.learned
        guesses, targets, kinds = logits.float(), self.labels[:, 1:][learned], self.roles[:, 1:][learned]
        each = torch.nn.functional.cross_entropy(guesses, targets, reduction="none")
        answers, captions = kinds == ANSWER, kinds == CAPTION
        loss = each.new_zeros(())
        if answers.any():
            loss = loss + each[answers].mean()
        if captions.any():
            loss = loss + caption_weight * each[captions].mean()
        right = (guesses.argmax(-1) == targets) | (targets == self.end)
        if not answers.any():
            return loss, right[targets != self.end].float().mean().item()
        begins = ((self.roles[:, 1:] == ANSWER) & (self.roles[:, :-1] != ANSWER))[learned]
        number = begins.cumsum(0)[answers]  # of the answer that a token belongs to, from 1
        mistakes = torch.bincount(number, weights=(~right[answers]).float(), minlength=int(number.max()) + 1)[1:]
        return loss, (mistakes == 0).float().mean().item()


def pack(
    processor: Processor,
    task: Task,
    pictures: list[tuple[Picture, np.random.Generator]],
    questions: int,
    lists: bool = True,
) -> TrainingBatch:
    """Choose `questions` of each picture, by the shares of their kinds, and write everything down; the caption too, if
    the model `lists` what it sees."""
    tokenizer = processor.tokenizer
    end = token_id(tokenizer, processor.end)
    texts = []
    for picture, rng in pictures:
        kinds = [question.kind for question in picture.questions]
        weights = np.array([task.kinds[kind] / kinds.count(kind) for kind in kinds])
        count = min(questions, int((weights > 0).sum()))
        chosen = rng.choice(len(kinds), count, replace=False, p=weights / weights.sum()) if count else ()
        turns = [(processor.asked(picture.questions[k].text), picture.questions[k].answer, ANSWER) for k in chosen]
        if lists and picture.caption[0]:
            turns.append((processor.asked(picture.caption[0]), picture.caption[1], CAPTION))
        head = processor.opening(
            task.name, len(picture.images), video=picture.video, context=picture.context, first=picture.first_page
        )
        texts.append((head, turns))
    every = [text for head, turns in texts for text in (head, *(part for *both, _ in turns for part in both))]
    flat = iter(tokenizer(every, add_special_tokens=False)["input_ids"])  # all at once: the tokenizer is quick in bulk
    ids: list[list[int]] = []
    roles: list[list[int]] = []
    numbers: list[list[int]] = []
    for _, turns in texts:
        row: list[int] = list(next(flat))
        role: list[int] = []
        number: list[int] = []
        for k, (*_, kind) in enumerate(turns, start=1):
            ask, told = next(flat), [*next(flat), end]
            row += [*ask, *told]
            role += [0] * len(ask) + [kind] * len(told)
            number += [k] * (len(ask) + len(told))
        ids.append(row)
        roles.append(role)
        numbers.append(number)
    pictures_only = [list(picture.images) for picture, _ in pictures]
    video = pictures[0][0].video
    expanded, pixels = processor.expand(ids, None if video else pictures_only, pictures_only if video else None)
    inputs = processor.pad(expanded, pixels)
    length = inputs["input_ids"].shape[1]
    role_of, turn_of = (torch.tensor([[0] * (length - len(row)) + row for row in rows]) for rows in (roles, numbers))
    return TrainingBatch(inputs, role_of, turn_of.masked_fill(inputs["attention_mask"].eq(0), -1), end)
