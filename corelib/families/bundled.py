"""The models inside the package: the mini models (Qwen3-VL) and the bridge (SmolVLM), with prompts of their own.

Each picture, and each frame of a clip, is one run of placeholder tokens, and text stands between any two: page names,
timestamps, or at least the vision marks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from corelib.bridge.processing import BridgeProcessor, cells, scaled
from corelib.core.errors import BadInput
from corelib.families.base import Family, ModelInputs, View, refuse_special, told_of, touching
from corelib.families.regions import Grid
from corelib.mini.processing import MiniProcessor, fit
from corelib.tasks.sample import Sample


class Processor(Protocol):
    """What is asked of a processor: its words, its way to put a question, and what it makes of pictures."""

    end: str  # closes an answer

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    def opening(self, domain: str, pictures: int, *, video: bool = False, context: str = "", first: int = 1) -> str: ...
    def asked(self, question: str) -> str: ...
    def expand(
        self,
        ids: Sequence[Sequence[int]],
        images: Sequence[Sequence[Image.Image]] | None = None,
        videos: Sequence[Sequence[Image.Image]] | None = None,
    ) -> tuple[list[list[int]], dict[str, Tensor]]: ...
    def pad(self, ids: Sequence[Sequence[int]], pixels: dict[str, Tensor]) -> dict[str, Tensor]: ...


def runs(marked: Bool[Tensor, " token"]) -> list[Int[Tensor, " run"]]:
    """Positions of each unbroken run of True.

    >>> [run.tolist() for run in runs(torch.tensor([True, True, False, True]))]
    [[0, 1], [3]]
    """
    positions = marked.nonzero().flatten()
    breaks = (positions.diff() > 1).nonzero().flatten() + 1
    return [run for run in torch.tensor_split(positions, breaks.tolist()) if len(run)]


class Bundled(Family):
    """What the two kinds of bundled models share."""

    processor: Processor

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.processor.tokenizer

    @abstractmethod
    def check(self, question: str) -> None:
        """Refuse a question that the model cannot read.

        Raises: BadInput, which says how to ask.
        """

    @abstractmethod
    def grid(self, image: Image.Image) -> Grid:
        """The visual tokens that one picture becomes."""

    @abstractmethod
    def visual(self, ids: Int[Tensor, "batch token"]) -> Bool[Tensor, "batch token"]:
        """Which tokens stand for pixels."""

    def build_inputs(self, samples: Sequence[Sample], answers: bool) -> ModelInputs:
        refuse_special(self.tokenizer, samples)
        rows, lengths, marks = [], [], []
        for sample in samples:
            self.check(sample.question)
            head = self.processor.opening(
                sample.domain, len(sample.images), video=sample.video, context=sample.context, first=sample.first_page
            )
            parts = [head, self.processor.asked(sample.question), *([sample.answer] if answers else [])]
            read = self.tokenizer(parts, add_special_tokens=False, return_offsets_mapping=True)
            rows.append([token for part in read["input_ids"] for token in part])
            lengths.append((len(read["input_ids"][1]), 0, len(read["input_ids"][2]) if answers else 0))
            start, places = head.rfind(sample.context), read["offset_mapping"][0]
            mine = [touching(places, start, ranges) for ranges in ([(0, len(sample.context))], sample.spans)]
            told = told_of(sample, read["offset_mapping"][2]) if answers else []
            marks.append(nn.functional.pad(torch.tensor([*mine, [False] * len(places)]), (0, sum(lengths[-1]))))
            marks[-1][2, len(marks[-1][2]) - len(told) :] = torch.tensor(told, dtype=torch.bool)
        stills = [[] if sample.video else list(sample.images) for sample in samples]
        clips = [list(sample.images) if sample.video else [] for sample in samples]
        inputs = self.processor.pad(*self.processor.expand(rows, stills, clips))
        masks = torch.zeros(3, *inputs["input_ids"].shape, dtype=torch.bool)
        for row, marked in enumerate(marks):  # from the right: pictures and padding grow to the left of the text
            masks[:, row, -marked.shape[1] :] = marked
        views = [
            [
                View((number,), self.grid(image), run)
                for number, (image, run) in enumerate(zip(sample.images, runs(visual), strict=True))
            ]
            for visual, sample in zip(self.visual(inputs["input_ids"]), samples, strict=True)
        ]
        return ModelInputs(inputs, views, torch.tensor(lengths), *masks)


@dataclass(frozen=True)
class Mini(Bundled):
    """The adapter of the mini models: patches of `patch_size` pixels, `spatial_merge_size`² of them to a token."""

    config: Any  # transformers does not type the parts of a configuration
    processor: MiniProcessor

    def check(self, question: str) -> None:
        asked = self.tokenizer(question, add_special_tokens=False)["input_ids"]
        if self.tokenizer.unk_token_id in asked or not asked:
            words = self.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(question.lower())
            unknown = self.tokenizer.unk_token_id
            strange = [word for word, _ in words if self.tokenizer.convert_tokens_to_ids(word) == unknown]
            raise BadInput(
                f"the mini models do not know {', '.join(map(repr, strange)) or 'an empty question'}: "
                "ask like 'digit on red square ?', 'digit left of blue star ?', 'room on page 2 ?', "
                "'digit on red square in frame 3 ?' or 'frame of blue star ?'"
            )

    def grid(self, image: Image.Image) -> Grid:
        width, height = fit(image).size
        vision = self.config.vision_config
        merge, patch = vision.spatial_merge_size, vision.patch_size
        cell = patch * merge
        return Grid(height // cell, width // cell, image.width, image.height, patch=patch, merge=merge)

    def visual(self, ids: Int[Tensor, "batch token"]) -> Bool[Tensor, "batch token"]:
        return ids.eq(self.config.image_token_id) | ids.eq(self.config.video_token_id)


@dataclass(frozen=True)
class Bridge(Bundled):
    """The adapter of the bridge: every picture on a square canvas, small enough to need no splitting into tiles."""

    config: Any  # transformers does not type the parts of a configuration
    processor: BridgeProcessor

    def check(self, question: str) -> None:
        if not question.strip():
            raise BadInput("the question is empty: ask like 'digit on red square ?'")

    def grid(self, image: Image.Image) -> Grid:
        size = scaled(image)
        side = cells(size)
        patch, merge = self.config.vision_config.patch_size, self.config.scale_factor
        return Grid(side, side, image.width, image.height, patch=patch, merge=merge, resized=size)

    def visual(self, ids: Int[Tensor, "batch token"]) -> Bool[Tensor, "batch token"]:
        return ids.eq(self.config.image_token_id)
