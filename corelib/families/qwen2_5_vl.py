"""Qwen2.5-VL: a picture is stretched to whole tokens of 28 × 28 pixels; two frames of a clip are merged into a slice.

Patches of `patch_size` pixels are merged `merge_size`² into one token, in raster order. The slices of a clip follow
each other without a word between them. How many pixels a frame may have is a setting of its own. Source: transformers,
`models/qwen2_5_vl/processing_qwen2_5_vl.py`, `models/qwen2_vl/video_processing_qwen2_vl.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from corelib.core.errors import BadInput
from corelib.families.chat import Chat, ImageSpan, ProcessedImages, PromptImage
from corelib.families.clips import frames_of
from corelib.families.regions import Grid
from corelib.tasks.sample import SECONDS

START, IMAGE, VIDEO, END = "<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>"
MOST_SLENDER = 200


@dataclass(frozen=True)
class Qwen25VL(Chat):
    """The adapter of `Qwen2_5_VLForConditionalGeneration`."""

    architecture: ClassVar = "Qwen2_5_VLForConditionalGeneration"
    processor: ClassVar = Qwen2VLImageProcessorPil
    video_defaults: ClassVar = {"size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 768 * 28 * 28}}
    marks: ClassVar = (f"{START}{IMAGE}{END}", f"{START}{VIDEO}{END}")

    def visual_tokens(self) -> tuple[str, ...]:
        return IMAGE, VIDEO

    def preprocess(self, images: Sequence[Image.Image], video: bool, seconds: float = SECONDS) -> ProcessedImages:
        for width, height in {image.size for image in images}:
            if max(width, height) > MOST_SLENDER * min(width, height):
                raise BadInput(
                    f"a picture of {width} × {height} pixels: Qwen's processors take sides of up to {MOST_SLENDER} to "
                    "1, so cut it"
                )
        return self._clip(frames_of(images), seconds) if video else self._pictures(images)

    def _pictures(self, images: Sequence[Image.Image]) -> ProcessedImages:
        found = self.image_processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        seen = []
        for number, (size, image) in enumerate(zip(found["image_grid_thw"].tolist(), images, strict=True)):
            grid = self.grid(self.image_processor, size, image)
            span = ImageSpan((number,), grid, torch.arange(grid.tokens))
            seen.append(PromptImage(START + IMAGE * grid.tokens + END, (span,)))
        return ProcessedImages(seen, {key: found[key] for key in ("pixel_values", "image_grid_thw")})

    def _clip(self, images: Sequence[Image.Image], seconds: float) -> ProcessedImages:
        found = self.patches(images)
        merged, last = self.frame_processor.temporal_patch_size, len(images) - 1
        slices = [[min(first + k, last) for k in range(merged)] for first in range(0, len(images), merged)]
        still, size = found["pixel_values"], found["image_grid_thw"][0].tolist()
        frames = still.reshape(len(images), -1, still.shape[-1])
        pixels = torch.cat([self._merged(frames, mine) for mine in slices])  # the last frame fills up the last slice
        grid = self.grid(self.frame_processor, size, images[0])
        shown = self.clip([tuple(dict.fromkeys(mine)) for mine in slices], grid, seconds)
        shape = torch.tensor([[len(slices), *size[1:]]])
        given = {"pixel_values_videos": pixels, "video_grid_thw": shape, **self.timing(merged * seconds)}
        return ProcessedImages([shown], given)

    def patches(self, images: Sequence[Image.Image]) -> Any:
        """The frames of a clip as so many still pictures, in patches."""
        return self.frame_processor(images=images, return_tensors="pt")

    def clip(self, slices: Sequence[tuple[int, ...]], grid: Grid, seconds: float) -> PromptImage:
        """What stands in the prompt for a clip: all its tokens in one row."""
        pieces = tuple(
            ImageSpan(mine, grid, torch.arange(grid.tokens) + number * grid.tokens)
            for number, mine in enumerate(slices)
        )
        return PromptImage(START + VIDEO * grid.tokens * len(slices) + END, pieces)

    def timing(self, seconds: float) -> dict[str, Tensor]:
        """What the model is told of time beside the prompt: how long a slice is."""
        return {"second_per_grid_ts": torch.tensor([seconds])}

    def grid(self, processor: Any, size: Sequence[int], image: Image.Image) -> Grid:
        """The tokens of one picture that the processor made (1, rows, columns) patches of."""
        patch, merge = processor.patch_size, processor.merge_size
        _, rows, columns = size
        return Grid(rows // merge, columns // merge, image.width, image.height, patch=patch, merge=merge)

    def more(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        image, video = self.visual_ids
        ids = inputs["input_ids"]
        return {"mm_token_type_ids": (ids == image).int() + 2 * (ids == video).int()}

    def _merged(self, frames: Float[Tensor, "frame patch pixel"], mine: Sequence[int]) -> Float[Tensor, "patch pixel"]:
        """One slice: the patches of a still picture hold it as often as frames are merged; here each is another one."""
        apart = frames.reshape(*frames.shape[:2], 3, len(mine), -1)  # [frame, patch, colour, time, pixel]
        return torch.stack([apart[frame, :, :, time] for time, frame in enumerate(mine)], 2).flatten(1)
