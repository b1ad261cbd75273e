"""Gemma 3: a picture is stretched over one square, which becomes 16 × 16 tokens that all see each other.

SigLIP reads 896 × 896 pixels in patches of 14; the projector averages 4 × 4 of them into a token. With pan and scan
(`do_pan_and_scan` of the image processor; no published checkpoint has it on), a long picture is shown as a whole, and
then cut along its longer side into crops, each stretched over a square of its own. The frames of a clip are given as so
many pictures.

Five of six layers of the language model see only the last `sliding_window` tokens. Which of them reach the evidence is
measured (`corelib/experiments/reach.py`).
Source: transformers, `models/gemma3/processing_gemma3.py`, `image_processing_gemma3.py` and `modeling_gemma3.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isqrt
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from corelib.families.chat import Chat, ImageSpan, ProcessedImages, PromptImage
from corelib.families.regions import Grid
from corelib.tasks.sample import SECONDS

PAN_AND_SCAN = {  # as transformers' processor has it, where an image processor does not say
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}
START, SOFT, END = "<start_of_image>", "<image_soft_token>", "<end_of_image>"

Crop = tuple[int, int, int, int]  # x0, y0, x1, y1, in pixels of the picture


def crops(width: int, height: int, count: int) -> list[Crop]:
    """Where pan and scan cuts a picture into `count` pieces: along its longer side, the last piece may be smaller.

    >>> crops(100, 40, 3)
    [(0, 0, 34, 40), (34, 0, 68, 40), (68, 0, 100, 40)]
    """
    if width >= height:
        size = ceil(width / max(count, 1))
        return [(size * k, 0, min(size * (k + 1), width), height) for k in range(count)]
    return [(y0, x0, y1, x1) for x0, y0, x1, y1 in crops(height, width, count)]


@dataclass(frozen=True)
class Gemma3(Chat):
    """The adapter of `Gemma3ForConditionalGeneration`."""

    architecture: ClassVar = "Gemma3ForConditionalGeneration"
    processor: ClassVar = Gemma3ImageProcessorPil
    clips: ClassVar = False
    marks: ClassVar = (START, START)

    def visual_tokens(self) -> tuple[str, ...]:
        return (SOFT,)

    def preprocess(self, images: Sequence[Image.Image], video: bool, seconds: float = SECONDS) -> ProcessedImages:
        unsaid = {key: value for key, value in PAN_AND_SCAN.items() if getattr(self.image_processor, key) is None}
        pictures = [image.convert("RGB") for image in images]
        found = self.image_processor(images=pictures, return_tensors="pt", **unsaid)
        counted = enumerate(zip(images, torch.as_tensor(found["num_crops"]).tolist(), strict=True))
        shown = [self._shown(number, image, count) for number, (image, count) in counted]
        return ProcessedImages(shown, {"pixel_values": found["pixel_values"]})

    def more(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Which tokens are visual: without it the model would not let those of one picture see each other."""
        return {"token_type_ids": torch.isin(inputs["input_ids"], torch.tensor(self.visual_ids)).long()}

    @property
    def side(self) -> int:
        """The side of a picture, in tokens."""
        tokens: int = self.config.mm_tokens_per_image
        return isqrt(tokens)

    def _shown(self, number: int, image: Image.Image, count: int) -> PromptImage:
        one = f"\n\n{START}{SOFT * self.side**2}{END}\n\n"
        pieces = [(0, 0, image.width, image.height), *crops(image.width, image.height, count)]
        spans = tuple(
            ImageSpan((number,), grid, torch.arange(grid.tokens) + place * grid.tokens)
            for place, grid in enumerate(self._grid(image, piece) for piece in pieces)
        )
        if not count:
            return PromptImage(one, spans)
        several = " ".join([one] * count)
        text = f"Here is the original image {one} and here are some crops to help you see better {several}"
        return PromptImage(text, spans)

    def _grid(self, image: Image.Image, crop: Crop) -> Grid:
        """The tokens of one crop, which is stretched over the square that the tower reads."""
        vision = self.config.vision_config
        x0, y0, x1, y1 = crop
        scale_x, scale_y = vision.image_size / (x1 - x0), vision.image_size / (y1 - y0)
        return Grid(
            self.side,
            self.side,
            image.width,
            image.height,
            patch=vision.patch_size,
            merge=vision.image_size // vision.patch_size // self.side,
            resized=(image.width * scale_x, image.height * scale_y),
            shift=(-x0 * scale_x, -y0 * scale_y),
        )
