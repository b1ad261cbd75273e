"""What corelib must know about a family of models: little, and only how pictures become tokens.

Attention, layers and heads are read off the model itself (`corelib.attention`). A family says where the pictures
lie in the sequence. Every family is one small file with a subclass of `Family`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

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


class Processor(Protocol):
    """What is asked of a processor: its words, its way to put a question, and what it makes of pictures."""

    tokenizer: PreTrainedTokenizerBase
    end: str  # closes an answer

    def opening(self, domain: str, pictures: int, *, video: bool = False, context: str = "") -> str: ...
    def asked(self, question: str) -> str: ...
    def expand(self, ids, images=None, videos=None) -> tuple[list[list[int]], dict[str, Tensor]]: ...
    def pad(self, ids: list[list[int]], pixels: dict[str, Tensor]) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Written:
    """Samples as model inputs, left-padded, and where their words are."""

    inputs: dict[str, Tensor]
    lengths: Int[Tensor, "sample 2"]  # how many tokens at the end of each row are (question, answer)
    context: Bool[Tensor, "sample token"]  # the text before the question
    spans: Bool[Tensor, "sample token"]  # of that, the text that holds the answer


class Family(ABC):
    """One adapter a family. It never computes a score."""

    processor: Processor

    @abstractmethod
    def check(self, question: str) -> None:
        """Refuse a question that the model cannot read."""

    @abstractmethod
    def grid(self, image: Image.Image) -> Grid:
        """The visual tokens that one picture becomes."""

    @abstractmethod
    def visual(self, inputs: dict[str, Tensor]) -> Bool[Tensor, "batch token"]:
        """Which tokens stand for pixels."""

    def pictures(self, inputs: dict[str, Tensor], samples: Sequence[Sample]) -> list[list[Picture]]:
        """For every sample, its pictures in order: something stands between any two, so each is one run of tokens."""
        return [
            [Picture(self.grid(image), run) for image, run in zip(sample.images, runs(marked), strict=True)]
            for marked, sample in zip(self.visual(inputs), samples, strict=True)
        ]

    def write(self, samples: Sequence[Sample], answers: bool) -> Written:
        """Samples as model inputs, with their answers or without."""
        rows, lengths, marks = [], [], []
        for sample in samples:
            self.check(sample.question)
            head = self.processor.opening(
                sample.domain, len(sample.images), video=sample.video, context=sample.context
            )
            parts = [head, self.processor.asked(sample.question), *([sample.answer] if answers else [])]
            read = self.processor.tokenizer(parts, add_special_tokens=False, return_offsets_mapping=True)
            rows.append([token for part in read["input_ids"] for token in part])
            lengths.append((len(read["input_ids"][1]), len(read["input_ids"][2]) if answers else 0))
            start, places = head.rfind(sample.context), read["offset_mapping"][0]
            mine = [_within(places, start, ranges) for ranges in ([(0, len(sample.context))], sample.spans)]
            marks.append(nn.functional.pad(torch.tensor(mine), (0, sum(lengths[-1]))))
        stills = [[] if sample.video else list(sample.images) for sample in samples]
        clips = [list(sample.images) if sample.video else [] for sample in samples]
        inputs = self.processor.pad(*self.processor.expand(rows, stills, clips))
        masks = torch.zeros(2, *inputs["input_ids"].shape, dtype=torch.bool)
        for row, marked in enumerate(marks):  # from the right: pictures and padding grow to the left of the text
            masks[:, row, -marked.shape[1] :] = marked
        return Written(inputs, torch.tensor(lengths), *masks)


def _within(places: Sequence[tuple[int, int]], start: int, ranges: Sequence[tuple[int, int]]) -> list[bool]:
    """Which tokens, given by their characters [first, last), touch one of the `ranges`, which count from `start`."""
    return [
        any(first < last and first < start + past and last > start + begin for begin, past in ranges)
        for first, last in places
    ]
