"""SmolVLM: a picture is stretched over a mosaic of square tiles, and shown once more as a whole, in one tile.

Its longer side becomes `longest_edge` pixels, and both sides whole tiles. Pixel shuffle merges `scale_factor`² patches
of a tile into a token. Before every tile stands its row and column; before the whole picture, which comes last,
`<global-img>`. A picture of one tile is shown once. The frames of a clip are shown in one tile each, with their times.
Source: transformers, `models/smolvlm/image_processing_smolvlm.py`, `models/smolvlm/processing_smolvlm.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from corelib.families.chat import Chat, ImageSpan, ProcessedImages, PromptImage
from corelib.families.internvl import raster
from corelib.families.regions import Grid
from corelib.tasks.sample import SECONDS

AROUND, IMAGE, WHOLE, CLIP = "<fake_token_around_image>", "<image>", "<global-img>", "<video>"


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
        pictures = [[image.convert("RGB") for image in images]]
        found = self.image_processor(
            images=pictures, do_image_splitting=not video, return_row_col_info=True, return_tensors="pt"
        )
        shapes = zip(images, found["rows"][0], found["cols"][0], strict=True)
        seen = [self._shown(number, *shape) for number, shape in enumerate(shapes)]
        pixels = {"pixel_values": found["pixel_values"], "pixel_attention_mask": found["pixel_attention_mask"]}
        if not video:
            return ProcessedImages(seen, pixels)
        text, each = "", self.side**2
        for number, one in enumerate(seen):
            minutes, rest = divmod(round(number * seconds), 60)
            text += f"\nFrame from {minutes:02d}:{rest:02d}:{one.text}"
        pieces = [
            ImageSpan(one.images, one.grid, one.places + number * each)
            for number, shown in enumerate(seen)
            for one in shown.pieces
        ]
        return ProcessedImages([PromptImage(text + "\n\n", tuple(pieces))], pixels)

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
