"""LLaVA-OneVision: one picture is shown as a whole, and again cut into tiles ("AnyRes"); several are shown as wholes.

The tower reads tiles of 384 pixels in patches of 14, so the last 6 pixels of a tile are read by no patch. The mosaic
keeps the picture's shape and is padded; what is padding is taken out again, so that tokens stand in the rows and
columns of the picture itself, with a newline token after each row. A mosaic of more than `anyres_max_9` = 9 tiles'
worth of tokens is shrunk bilinearly: then a token shows what the patches show that it is mixed from. So is every frame
of a clip, to half its rows and columns.
Source: transformers, `models/llava_onevision/processing_llava_onevision.py` and `modeling_llava_onevision.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from corelib.core.errors import BadInput
from corelib.families.chat import Chat, ImageSpan, ProcessedImages, PromptImage
from corelib.families.clips import frames_of
from corelib.families.regions import Grid
from corelib.tasks.sample import SECONDS

IMAGE, CLIP = "<image>", "<video>"

Spans = tuple[tuple[float, float], ...]  # the pixels [start, end) of each row or column of tokens


def best_resolution(width: int, height: int, allowed: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Of the `allowed` canvases (height, width), the one that keeps most of the picture, and wastes least.

    >>> best_resolution(800, 400, [(384, 384), (384, 768), (768, 768)])
    (384, 768)
    """
    best, most, least = allowed[0], 0, float("inf")
    for rows, columns in allowed:
        scale = min(columns / width, rows / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        wasted = rows * columns - kept
        if kept > most or (kept == most and wasted < least):
            best, most, least = (rows, columns), kept, wasted
    return best


def resized(width: int, height: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """The width and height of a picture in its own shape, as large as a canvas (height, width) holds."""
    scale_x, scale_y = canvas[1] / width, canvas[0] / height
    if scale_x < scale_y:
        return canvas[1], min(ceil(height * scale_x), canvas[0])
    return min(ceil(width * scale_y), canvas[1]), canvas[0]


def kept(rows: int, columns: int, width: int, height: int) -> tuple[range, range]:
    """The rows and columns of a mosaic's tokens that are left when padding is taken out.

    >>> kept(27, 54, width=100, height=100)
    (range(0, 27), range(13, 41))
    """
    if width / height > columns / rows:
        cut = (rows - int(round(height * (columns / width), 7))) // 2
        return range(cut, rows - cut), range(columns)
    cut = (columns - int(round(width * (rows / height), 7))) // 2
    return range(rows), range(cut, columns - cut)


def mixed(spans: Spans, count: int) -> Spans:
    """The pixels behind each of `count` tokens, to which the tokens of these pixels are shrunk bilinearly.

    >>> mixed(((0, 14), (14, 28), (28, 42)), 2)
    ((0, 28), (14, 42))
    """
    ratio, found = len(spans) / count, []
    for place in range(count):
        at = max((place + 0.5) * ratio - 0.5, 0.0)
        first = min(int(at), len(spans) - 1)
        last = min(first + (at > first), len(spans) - 1)
        found.append((spans[first][0], spans[last][1]))
    return tuple(found)


@dataclass(frozen=True)
class LlavaOnevision(Chat):
    """The adapter of `LlavaOnevisionForConditionalGeneration`."""

    architecture: ClassVar = "LlavaOnevisionForConditionalGeneration"
    processor: ClassVar = LlavaOnevisionImageProcessorPil
    marks: ClassVar = (IMAGE, CLIP)

    def visual_tokens(self) -> tuple[str, ...]:
        return IMAGE, CLIP

    def preprocess(self, images: Sequence[Image.Image], video: bool, seconds: float = SECONDS) -> ProcessedImages:
        if video:
            return self._clip(frames_of(images))
        pictures = [[image.convert("RGB") for image in images]]
        found = self.image_processor(images=pictures, return_tensors="pt")
        make = self._anyres if len(images) == 1 else self._padded
        shown = [make(number, image) for number, image in enumerate(images)]
        pixels = {key: torch.as_tensor(found[key]) for key in ("pixel_values", "image_sizes", "batch_num_images")}
        return ProcessedImages(shown, pixels)

    def _clip(self, images: Sequence[Image.Image]) -> ProcessedImages:
        """Every frame is stretched over one tile, whose tokens are shrunk to half; one newline token ends the clip."""
        of, side, patch = self.frame_processor, self._side, self.config.vision_config.patch_size
        stretched = [image.resize((of.size["width"], of.size["height"]), of.resample) for image in images]
        found = of(images=[stretched], return_tensors="pt")
        axis = mixed(tuple((start * patch, (start + 1) * patch) for start in range(side)), ceil(side / 2))
        grid = self._whole(images[0], resized=(self._tile, self._tile), spans=(axis, axis))
        places = torch.arange(grid.tokens * len(images)).chunk(len(images))
        pieces = tuple(ImageSpan((number,), grid, mine) for number, mine in enumerate(places))
        shown = PromptImage(CLIP * (grid.tokens * len(images) + 1), pieces)
        return ProcessedImages([shown], {"pixel_values_videos": found["pixel_values"][None, :, 0]})

    def join(self, pixels: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """[picture, tile, …]: a picture with fewer tiles is filled up with zeros, which the model leaves out.

        Raises: BadInput for clips of different lengths, which the model does not take in one batch.
        """
        lengths = {one["pixel_values_videos"].shape[1] for one in pixels if "pixel_values_videos" in one}
        if len(lengths) > 1:
            raise BadInput(
                f"clips of {' and '.join(map(str, sorted(lengths)))} frames in one batch: LLaVA-OneVision takes them "
                "only one at a time (batch_size=1)"
            )
        most = max((one["pixel_values"].shape[1] for one in pixels if "pixel_values" in one), default=0)
        filled = [
            {**one, "pixel_values": pad(one["pixel_values"], (*[0] * 6, 0, most - one["pixel_values"].shape[1]))}
            if "pixel_values" in one
            else one
            for one in pixels
        ]
        return super().join(filled)

    @property
    def _side(self) -> int:
        """The side of a tile, in tokens."""
        patch: int = self.config.vision_config.patch_size
        return self._tile // patch

    @property
    def _tile(self) -> int:
        """The side of a tile, in pixels."""
        pixels: int = self.config.vision_config.image_size
        return pixels

    def _whole(
        self,
        image: Image.Image,
        resized: tuple[float, float],
        shift: tuple[float, float] = (0.0, 0.0),
        spans: tuple[Spans, Spans] | None = None,
    ) -> Grid:
        patch, size = self.config.vision_config.patch_size, (image.width, image.height)
        rows, columns = map(len, spans) if spans else (self._side, self._side)
        return Grid(rows, columns, *size, patch=patch, merge=1, resized=resized, shift=shift, spans=spans)

    def _padded(self, number: int, image: Image.Image) -> PromptImage:
        """One of several pictures: on a square canvas, in one tile, with one newline token behind it."""
        scale = self._tile / max(image.size)
        left, top = ((max(image.size) - side) // 2 * scale for side in image.size)
        grid = self._whole(image, resized=(image.width * scale, image.height * scale), shift=(left, top))
        return PromptImage(IMAGE * (grid.tokens + 1), (ImageSpan((number,), grid, torch.arange(grid.tokens)),))

    def _anyres(self, number: int, image: Image.Image) -> PromptImage:
        """A picture by itself: the whole of it, then its tiles in rows, with a newline token behind each row."""
        whole = self._whole(image, resized=(self._tile, self._tile))
        grid = self._mosaic(image)
        places = torch.arange(grid.rows * (grid.columns + 1)).reshape(grid.rows, -1)[:, :-1].flatten()
        pieces = (
            ImageSpan((number,), whole, torch.arange(whole.tokens)),
            ImageSpan((number,), grid, places + whole.tokens),
        )
        return PromptImage(IMAGE * (whole.tokens + grid.rows * (grid.columns + 1)), pieces)

    def _mosaic(self, image: Image.Image) -> Grid:
        allowed = [(height, width) for height, width in self.config.image_grid_pinpoints]
        canvas = best_resolution(*image.size, allowed)
        size = resized(*image.size, canvas)
        patch, side, tile = self.config.vision_config.patch_size, self._side, self._tile
        left = kept(canvas[0] // tile * side, canvas[1] // tile * side, *image.size)
        starts = [[place // side * tile + place % side * patch for place in axis] for axis in left]
        rows, columns = (tuple((start, start + patch) for start in axis) for axis in starts)
        most = int(self.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = (len(left[0]) * len(left[1]) / (most * side**2)) ** 0.5
        if ratio > 1.1:
            rows, columns = (mixed(axis, int(len(axis) // ratio)) for axis in (rows, columns))
        shift = ((canvas[1] - size[0]) // 2, (canvas[0] - size[1]) // 2)
        return Grid(
            len(rows),
            len(columns),
            image.width,
            image.height,
            patch=patch,
            merge=1,
            resized=size,
            shift=shift,
            spans=(rows, columns),
        )
