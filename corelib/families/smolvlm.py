"""SmolVLM: a picture is stretched over a mosaic of square tiles, and shown once more as a whole, in one tile.

Its longer side becomes `longest_edge` pixels, and both sides whole tiles. Pixel shuffle merges `scale_factor`² patches
of a tile into a token. Before every tile stands its row and column; before the whole picture, which comes last,
`<global-img>`. A picture of one tile is shown once. The frames of a clip are shown in one tile each, with their times;
before them stands how many there are, and how long the clip is: up to its last frame, for no more is known of it.
Source: transformers, `processing_smolvlm.py`, `image_processing_smolvlm.py` and `video_processing_smolvlm.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import (
    DEFAULT_CHAT_TEMPLATE,
    DEFAULT_MEDIA_OUTTRO,
    DEFAULT_VIDEO_INTRO,
    FRAME_TIMESTAMP_MESSAGE,
)

from corelib.families.chat import Chat, ImageSpan, ProcessedImages, PromptImage, in_a_row
from corelib.families.clips import frames_of
from corelib.families.internvl import raster
from corelib.families.regions import Grid
from corelib.tasks.sample import SECONDS

AROUND, IMAGE, WHOLE, CLIP = "<fake_token_around_image>", "<image>", "<global-img>", "<video>"
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def in_words(number: int) -> str:
    """A whole number below a million, as the stock processor writes it.

    >>> in_words(8), in_words(64), in_words(120), in_words(1_007)
    ('eight', 'sixty-four', 'one hundred and twenty', 'one thousand and seven')
    """
    if number < 20:
        return ONES[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return TENS[tens - 2] + (f"-{ONES[rest]}" if rest else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    many, rest = divmod(number, size)
    link = "" if not rest else " and " if rest < 100 else ", "
    return f"{in_words(many)} {name}{link}{in_words(rest) if rest else ''}"


def timed(frames: Sequence[str], seconds: float) -> str:
    """What stands in the prompt for a clip of these frames, so many seconds apart.

    >>> print(timed(["<1>", "<2>"], seconds=60.0).strip())
    You are provided the following series of two frames from a 0:01:00 [H:MM:SS] video.
    <BLANKLINE>
    Frame from 00:00:<1>
    Frame from 01:00:<2>
    """
    times = [int(number / (1 / seconds)) for number in range(len(frames))]  # the stock processor divides by the pace
    text = DEFAULT_VIDEO_INTRO.format(frame_count=in_words(len(frames)), video_duration=timedelta(seconds=times[-1]))
    for time, frame in zip(times, frames, strict=True):
        text += FRAME_TIMESTAMP_MESSAGE.format(timestamp=f"{time // 60:02d}:{time % 60:02d}") + frame
    return text + DEFAULT_MEDIA_OUTTRO


@dataclass(frozen=True)
class SmolVLM(Chat):
    """The adapter of `SmolVLMForConditionalGeneration`."""

    architecture: ClassVar = "SmolVLMForConditionalGeneration"
    processor: ClassVar = SmolVLMImageProcessorPil
    lead: ClassVar = " "
    marks: ClassVar = (IMAGE, CLIP)

    def visual_tokens(self) -> tuple[str, ...]:
        return (IMAGE,)

    def preprocess(self, images: Sequence[Image.Image], video: bool, seconds: float = SECONDS) -> ProcessedImages:
        processor = self.frame_processor if video else self.image_processor
        pictures = frames_of(images) if video else [image.convert("RGB") for image in images]
        found = processor(
            images=[pictures], do_image_splitting=not video, return_row_col_info=True, return_tensors="pt"
        )
        shapes = zip(images, found["rows"][0], found["cols"][0], strict=True)
        seen = [self._shown(number, *shape) for number, shape in enumerate(shapes)]
        if video:
            seen = [PromptImage(timed([one.text for one in seen], seconds), in_a_row(seen))]
        return ProcessedImages(seen, {key: found[key] for key in ("pixel_values", "pixel_attention_mask")})

    def template_of(self, video: bool) -> str:
        """The stock processor writes every clip by one template, whatever that of the checkpoint is."""
        return DEFAULT_CHAT_TEMPLATE if video else self.template

    def join(self, pixels: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """[sample, tile, …]: a sample with fewer tiles is filled up with zeros, which the model leaves out."""
        some = [one for one in pixels if one]
        if not some:
            return {}
        most = max(one["pixel_values"].shape[1] for one in some)
        blank = {key: value.new_zeros(1, 0, *value.shape[2:]) for key, value in some[0].items()}

        def filled(value: Tensor) -> Tensor:
            return pad(value, (*[0, 0] * (value.ndim - 2), 0, most - value.shape[1]))

        return {key: torch.cat([filled(one.get(key, blank[key])) for one in pixels]) for key in blank}

    @property
    def side(self) -> int:
        """The side of a tile, in tokens."""
        vision = self.config.vision_config
        tokens: int = vision.image_size // vision.patch_size // self.config.scale_factor
        return tokens

    def _shown(self, number: int, image: Image.Image, rows: int, columns: int) -> PromptImage:
        side, vision = self.side, self.config.vision_config
        cut = {"patch": vision.patch_size, "merge": self.config.scale_factor}
        whole = Grid(side, side, image.width, image.height, **cut)
        one, text, pieces, before = IMAGE * side**2, "", [], 0
        if rows and columns:
            for row in range(rows):
                for column in range(columns):
                    text += f"{AROUND}<row_{row + 1}_col_{column + 1}>{one}"
                text += "\n"
            text += "\n"
            grid = Grid(rows * side, columns * side, image.width, image.height, **cut)
            pieces.append(ImageSpan((number,), grid, raster(rows, columns, side)))
            before = grid.tokens
        pieces.append(ImageSpan((number,), whole, torch.arange(whole.tokens) + before))
        return PromptImage(f"{text}{AROUND}{WHOLE}{one}{AROUND}", tuple(pieces))
