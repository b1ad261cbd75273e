"""InternVL: a picture is stretched over a mosaic of square tiles, and shown once more as a whole, in one tile.

The mosaic is the one (of at most 12 tiles) whose shape is nearest to the picture's. Pixel shuffle merges 2 × 2 patches
of a tile into a token. Tokens come tile by tile; the whole picture comes last. A picture of one tile is shown once.
Source: transformers, `models/got_ocr2/image_processing_got_ocr2.py`, `models/internvl/processing_internvl.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from corelib.core.errors import BadInput
from corelib.families.chat import Chat, ImageSpan, ProcessedImages, PromptImage, in_a_row
from corelib.families.clips import frames_of
from corelib.families.regions import Grid
from corelib.tasks.sample import SECONDS

START, CONTEXT, END, CLIP = "<img>", "<IMG_CONTEXT>", "</img>", "<video>"


def mosaic(width: int, height: int, tile: int, least: int, most: int) -> tuple[int, int]:
    """How many rows and columns of tiles a picture is cut into: nearest in shape; of two as near, the larger one if the
    picture has more than half its pixels.

    >>> mosaic(800, 400, tile=448, least=1, most=12)
    (1, 2)
    """
    shapes = [(c, r) for c in range(1, most + 1) for r in range(1, most + 1) if least <= c * r <= most]
    best, nearest = (1, 1), float("inf")
    for columns, rows in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
        off = abs(width / height - columns / rows)
        if off < nearest or (off == nearest and width * height > 0.5 * tile * tile * columns * rows):
            best, nearest = (rows, columns), off
    return best


def raster(rows: int, columns: int, side: int) -> Int[Tensor, " token"]:
    """Where the tokens of a mosaic, in raster order, stand in a sequence that goes tile by tile.

    >>> raster(1, 2, side=2).tolist()
    [0, 1, 4, 5, 2, 3, 6, 7]
    """
    order = torch.arange(rows * columns * side * side).reshape(rows, columns, side, side)
    return order.transpose(1, 2).flatten()


@dataclass(frozen=True)
class InternVL(Chat):
    """The adapter of `InternVLForConditionalGeneration` (the checkpoints whose name ends in `-HF`)."""

    architecture: ClassVar = "InternVLForConditionalGeneration"
    processor: ClassVar = GotOcr2ImageProcessorPil
    marks: ClassVar = (CONTEXT, CLIP)

    def visual_tokens(self) -> tuple[str, ...]:
        return (CONTEXT,)

    def preprocess(self, images: Sequence[Image.Image], video: bool, seconds: float = SECONDS) -> ProcessedImages:
        if video:
            return self._clip(frames_of(images))
        found = self.image_processor(
            images=[image.convert("RGB") for image in images], crop_to_patches=True, return_tensors="pt"
        )
        tiles = found["num_patches"].tolist()
        seen = [self._shown(number, *one) for number, one in enumerate(zip(images, tiles, strict=True))]
        return ProcessedImages(seen, {"pixel_values": found["pixel_values"]})

    def _clip(self, images: Sequence[Image.Image]) -> ProcessedImages:
        found = self.frame_processor(images=images, crop_to_patches=False, return_tensors="pt")
        seen = [self._shown(number, image, tiles=1) for number, image in enumerate(images)]
        text = "\n".join(f"Frame{number + 1}: {one.text}" for number, one in enumerate(seen))
        return ProcessedImages([PromptImage(text, in_a_row(seen))], {"pixel_values": found["pixel_values"]})

    @property
    def side(self) -> int:
        """The side of a tile, in tokens."""
        patch: int = self.config.vision_config.patch_size[0]
        shrink: float = self.config.downsample_ratio
        return round(self.tile / patch * shrink)

    @property
    def tile(self) -> int:
        """The side of a tile, in pixels."""
        pixels: int = self.config.vision_config.image_size[0]
        return pixels

    def _shown(self, number: int, image: Image.Image, tiles: int) -> PromptImage:
        patch, merge = self.config.vision_config.patch_size[0], round(1 / self.config.downsample_ratio)
        whole = Grid(self.side, self.side, image.width, image.height, patch=patch, merge=merge)
        pieces = [ImageSpan((number,), whole, torch.arange(whole.tokens))]
        if tiles > 1:
            of = self.image_processor
            rows, columns = mosaic(image.width, image.height, self.tile, of.min_patches, of.max_patches)
            if rows * columns + 1 != tiles:
                raise BadInput(
                    f"the image processor cut {image.width} × {image.height} pixels into {tiles} tiles where "
                    f"{rows} × {columns} and the whole were expected: report the version of transformers"
                )
            grid = Grid(rows * self.side, columns * self.side, image.width, image.height, patch=patch, merge=merge)
            order = raster(rows, columns, self.side)
            pieces = [
                ImageSpan((number,), grid, order),
                ImageSpan((number,), whole, torch.arange(whole.tokens) + grid.tokens),
            ]
        return PromptImage(START + CONTEXT * self.side**2 * tiles + END, tuple(pieces))
