"""What the published families share: a chat template, an image processor and a tokenizer, as they come from the hub.

A family fills in two things: what stands in the prompt in the place of a picture, and which of these tokens shows which
part of it. The layouts follow the public processors of transformers, word for word; tests hold them to that code.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from corelib.core.errors import BadInput
from corelib.families.base import Family, ModelInputs, View, left_pad, refuse_special, told_of, touching
from corelib.families.clips import frame_processor
from corelib.families.regions import Grid
from corelib.mini.vocabulary import token_id
from corelib.tasks.sample import SECONDS, Sample

BRIEFLY = "Answer with one word or number."  # is put behind a question that does not say how to answer
SLOT = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands for a question until the chat template has been filled in


@dataclass(frozen=True)
class ImageSpan:
    """A view before the prompt is known: its tokens are counted from the first visual one of its picture or clip."""

    images: tuple[int, ...]
    grid: Grid
    places: Int[Tensor, " token"]


@dataclass(frozen=True)
class PromptImage:
    """What stands in the prompt for one picture or clip."""

    text: str
    pieces: tuple[ImageSpan, ...]


@dataclass(frozen=True)
class ProcessedImages:
    """The pictures of one sample: what stands in the prompt, and what the model gets beside it."""

    shown: list[PromptImage]
    pixels: dict[str, Tensor]


def in_a_row(seen: Sequence[PromptImage]) -> tuple[ImageSpan, ...]:
    """The spans of frames whose visual tokens are counted on, from one frame to the next."""
    pieces = [piece for one in seen for piece in one.pieces]
    before = accumulate((piece.grid.tokens for piece in pieces), initial=0)
    return tuple(
        ImageSpan(piece.images, piece.grid, piece.places + start) for piece, start in zip(pieces, before, strict=False)
    )


@dataclass(frozen=True)
class Chat(Family):
    """A published family. `template` is the Jinja chat template of the checkpoint."""

    config: Any  # transformers does not type the parts of a configuration, nor what processors return
    tokenizer: PreTrainedTokenizerBase
    image_processor: Any
    template: str
    video: Mapping[str, Any] | None = None  # settings of the checkpoint's video processor; None: not known

    architecture: ClassVar[str]  # the model's class in transformers
    processor: ClassVar[type[Any]]  # the image processor's, without torchvision: the same pixels everywhere
    video_defaults: ClassVar[Mapping[str, Any]] = {}  # of the video processor, where they are not those for pictures
    lead: ClassVar[str] = ""  # stands between the prompt and an answer
    clips: ClassVar[bool] = True  # can take the frames of a clip as one; otherwise as so many pictures
    marks: ClassVar[tuple[str, str]]  # what the template writes for a picture, and for a clip

    @abstractmethod
    def preprocess(self, images: Sequence[Image.Image], video: bool, seconds: float = SECONDS) -> ProcessedImages:
        """The pictures of one sample, or the frames of its clip, so many seconds apart; never none. Families whose
        prompts name no time have no use for these."""

    @cached_property
    def frame_processor(self) -> Any:
        """An image processor that prepares frames as the checkpoint's video processor does (`clips.py`)."""
        return frame_processor(self.processor, self.video, self.video_defaults)

    def template_of(self, video: bool) -> str:
        """The chat template that a prompt is written by."""
        return self.template

    @abstractmethod
    def visual_tokens(self) -> tuple[str, ...]:
        """The tokens that stand for pixels, or are mixed among them."""

    def join(self, pixels: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Pixels of several samples: one after the other."""
        keys = dict.fromkeys(key for one in pixels for key in one)
        return {key: torch.cat([one[key] for one in pixels if key in one]) for key in keys}

    def timing(self, seconds: float) -> dict[str, Tensor]:
        """What the model is told of time beside the prompt, if a slice of a clip is so long."""
        return {}

    def more(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What else the model asks for, told from the inputs."""
        return {}

    def build_inputs(self, samples: Sequence[Sample], answers: bool) -> ModelInputs:
        refuse_special(self.tokenizer, samples)
        rows, lengths, marks, views, pixels = [], [], [], [], []
        for sample in samples:
            video = sample.video and self.clips
            if video and not sample.seconds > 0:
                raise BadInput(f"the frames of a clip are {sample.seconds} seconds apart: give a number above 0")
            nothing = ProcessedImages([], {})
            seen = self.preprocess(sample.images, video, sample.seconds) if sample.images else nothing
            prompt, context, asked = self.prompt(sample, [one.text for one in seen.shown], video)
            read = self.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
            ids, places = read["input_ids"], read["offset_mapping"]
            answer, told = self._said(sample) if answers else ([], [])
            question = sum(touching(places, asked, [(0, len(sample.question))]))
            closing = sum(first >= asked + len(sample.question) for first, _ in places)
            rows.append([*ids, *answer])
            lengths.append((question, closing, len(answer)))
            ranges = ([(0, len(sample.context))], sample.spans) if sample.context else ([], [])
            before = [touching(places, context, mine) for mine in ranges]
            marks.append([*before, [*[False] * len(ids), *told]])
            views.append(self.place(torch.tensor(ids), seen.shown))
            pixels.append(seen.pixels)
        fill = self.tokenizer.pad_token_id
        ids, mask, marked = left_pad(rows, marks, self.tokenizer.eos_token_id if fill is None else fill)
        for row, mine in zip(rows, views, strict=True):
            for view in mine:
                view.positions.add_(ids.shape[1] - len(row))
        inputs = {"input_ids": ids, "attention_mask": mask, **self.join(pixels)}
        return ModelInputs({**inputs, **self.more(inputs)}, views, torch.tensor(lengths), *marked)

    def prompt(self, sample: Sample, shown: Sequence[str], video: bool) -> tuple[str, int, int]:
        """The prompt with its pictures filled in, and the characters at which context and question begin.

        Raises: BadInput for an empty question, or a chat template that is not of this family.
        """
        if not sample.question.strip():
            raise BadInput("the question is empty: ask something, such as 'What stands on the red square?'")
        content: list[dict[str, str]] = []
        if video:
            content.append({"type": "video"})
        for number in range(0 if video else len(sample.images)):
            if len(sample.images) > 1:
                content.append({"type": "text", "text": f"{self._name(sample)} {number + 1}: "})
            content.append({"type": "image"})
        content.append({"type": "text", "text": SLOT})
        turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
        text = str(
            self.tokenizer.apply_chat_template(
                turns, chat_template=self.template_of(video), tokenize=False, add_generation_prompt=True
            )
        )
        parts = re.split("|".join(re.escape(mark) for mark in self.marks), text)
        if len(parts) != len(shown) + 1 or text.count(SLOT) != 1:
            raise BadInput(
                f"the chat template writes {len(parts) - 1} pictures for {len(shown)}: it is none that this family "
                "knows; use the checkpoint's own"
            )
        text = parts[0] + "".join(one + part for one, part in zip(shown, parts[1:], strict=True))
        head, tail = text.split(SLOT)
        context = sample.context + "\n" if sample.context else ""
        ends = sample.question.rstrip().endswith((".", "!"))  # it says how to answer
        asked = sample.question if ends else f"{sample.question}\n{BRIEFLY}"
        return head + context + asked + tail, len(head), len(head) + len(context)

    @staticmethod
    def _name(sample: Sample) -> str:
        return "Frame" if sample.video else "Page" if sample.domain == "documents" else "Picture"

    def _said(self, sample: Sample) -> tuple[list[int], list[bool]]:
        """The answer as tokens, and which of them say what was asked."""
        read = self.tokenizer(self.lead + sample.answer, add_special_tokens=False, return_offsets_mapping=True)
        return read["input_ids"], told_of(sample, read["offset_mapping"], len(self.lead))

    @cached_property
    def visual_ids(self) -> list[int]:
        return [token_id(self.tokenizer, token) for token in self.visual_tokens()]

    def place(self, ids: Int[Tensor, " token"], shown: Sequence[PromptImage]) -> list[View]:
        """Every piece at its positions in the prompt.

        Raises: BadInput if there are more or fewer visual tokens than the pieces have.
        """
        visual = torch.isin(ids, torch.tensor(self.visual_ids)).nonzero().flatten()
        counts = [sum(one.text.count(token) for token in self.visual_tokens()) for one in shown]
        if sum(counts) != len(visual):
            raise BadInput(
                f"the tokenizer reads {len(visual)} visual tokens where {sum(counts)} stand: it is not of this family"
            )
        begins = accumulate(counts, initial=0)
        return [
            View(piece.images, piece.grid, visual[begin + piece.places])
            for begin, one in zip(begins, shown, strict=False)
            for piece in one.pieces
        ]
