"""What corelib must know about a family of models: little, and only how pictures become tokens.

Attention, layers and heads are read off the model itself (`corelib.attention`). A family says where the pictures
lie in the sequence. Every family is one small file with a subclass of `Family`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from corelib.regions import Grid
from corelib.tasks.sample import Sample


@dataclass(frozen=True)
class Picture:
    """One picture, page or frame in the sequence: its grid, and the position of each of its tokens."""

    grid: Grid
    positions: Int[Tensor, " token"]


def runs(marked: Bool[Tensor, " token"]) -> list[Int[Tensor, " run"]]:
    """Positions of each unbroken run of True.

    >>> [run.tolist() for run in runs(torch.tensor([True, True, False, True]))]
    [[0, 1], [3]]
    """
    positions = marked.nonzero().flatten()
    breaks = (positions.diff() > 1).nonzero().flatten() + 1
    return [run for run in torch.tensor_split(positions, breaks.tolist()) if len(run)]


@dataclass(frozen=True)
class Written:
    """Samples as model inputs, left-padded, and where their words are."""

    inputs: dict[str, Tensor]
    lengths: Int[Tensor, "sample 2"]  # how many tokens at the end of each row are (question, answer)
    context: Bool[Tensor, "sample token"]  # the text before the question
    spans: Bool[Tensor, "sample token"]  # of that, the text that holds the answer


class Family(ABC):
    """One adapter a family. It never computes a score."""

    processor: object

    @abstractmethod
    def check(self, question: str) -> None:
        """Refuse a question that the model cannot read."""

    def write(self, samples: Sequence[Sample], answers: bool) -> Written:
        """Samples as model inputs, with their answers or without."""
        tokenizer = self.processor.tokenizer
        rows, lengths, contexts, spans = [], [], [], []
        for sample in samples:
            self.check(sample.question)
            head = self.processor.opening(
                sample.domain, len(sample.images), video=sample.video, context=sample.context
            )
            parts = [head, self.processor.asked(sample.question), *([sample.answer] if answers else [])]
            read = tokenizer(parts, add_special_tokens=False, return_offsets_mapping=True)
            opened, *said = read["input_ids"]
            rows.append([*opened, *(token for part in said for token in part)])
            lengths.append((len(said[0]), len(said[1]) if answers else 0))
            places, start = read["offset_mapping"][0], head.rfind(sample.context)
            after = sum(map(len, said)) + len(opened)  # tokens are counted from the end: pictures stand before the text
            for found, wanted in ((contexts, [(0, len(sample.context))]), (spans, sample.spans)):
                inside = [
                    any(first < past + start and last > begin + start for begin, past in wanted) and first < last
                    for first, last in places
                ]
                found.append([after - k for k, marked in enumerate(inside) if marked])
        stills = [list(s.images) if not s.video else [] for s in samples]
        clips = [list(s.images) if s.video else [] for s in samples]
        inputs = self.processor.pad(*self.processor.expand(rows, stills, clips))
        masks = []
        for found in (contexts, spans):
            mask = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
            for row, back in enumerate(found):
                mask[row, [mask.shape[1] - k for k in back]] = True
            masks.append(mask)
        return Written(inputs, torch.tensor(lengths), *masks)

    @abstractmethod
    def grid(self, image: Image.Image) -> Grid:
        """The visual tokens that one picture becomes."""

    @abstractmethod
    def visual(self, inputs: dict[str, Tensor]) -> Bool[Tensor, "batch token"]:
        """Which tokens stand for pixels."""

    @abstractmethod
    def pictures(self, inputs: dict[str, Tensor], samples: list[Sample]) -> list[list[Picture]]:
        """For every sample, its pictures in order."""
