"""Qwen2.5-VL: a picture is stretched to whole tokens of 28 × 28 pixels; two frames of a clip are merged into a slice.

Patches of `patch_size` pixels are merged `merge_size`² into one token, in raster order. The slices of a clip follow
each other without a word between them. Source: transformers, `models/qwen2_5_vl/processing_qwen2_5_vl.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from corelib.core.errors import BadInput
from corelib.families.chat import Chat, ImageSpan, ProcessedImages, PromptImage
from corelib.families.regions import Grid
from corelib.tasks.sample import SECONDS

START, IMAGE, VIDEO, END = "<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>"


@dataclass(frozen=True)
class Qwen25VL(Chat):
    """The adapter of `Qwen2_5_VLForConditionalGeneration`."""

    architecture: ClassVar = "Qwen2_5_VLForConditionalGeneration"
    processor: ClassVar = Qwen2VLImageProcessorPil
    marks: ClassVar = (f"{START}{IMAGE}{END}", f"{START}{VIDEO}{END}")

    def visual_tokens(self) -> tuple[str, ...]:
        return IMAGE, VIDEO

    def preprocess(self, images: Sequence[Image.Image], video: bool, seconds: float = SECONDS) -> ProcessedImages:
        found = self.image_processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        sizes = found["image_grid_thw"].tolist()
        if not video:
            seen = [
                PromptImage(START + IMAGE * grid.tokens + END, (ImageSpan((number,), grid, torch.arange(grid.tokens)),))
                for number, grid in enumerate(map(self.grid, sizes, images))
            ]
            return ProcessedImages(
                seen, {"pixel_values": found["pixel_values"], "image_grid_thw": found["image_grid_thw"]}
            )
        if len({image.size for image in images}) != 1:
            raise BadInput("the frames of a clip must have one size")
        merged = self.image_processor.temporal_patch_size
        slices = [
            [min(first + k, len(images) - 1) for k in range(merged)] for first in range(0, len(images), merged)
        ]  # the last frame fills up the last slice
        still = found["pixel_values"]
        frames = still.reshape(len(images), -1, still.shape[-1])
        pixels = torch.cat([self._merged(frames, mine) for mine in slices])
        grid = self.grid(sizes[0], images[0])
        shown = self.clip([tuple(dict.fromkeys(mine)) for mine in slices], grid, seconds)
        size = torch.tensor([[len(slices), *sizes[0][1:]]])
        given = {"pixel_values_videos": pixels, "video_grid_thw": size, **self.timing(merged * seconds)}
        return ProcessedImages([shown], given)

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

    def grid(self, size: Sequence[int], image: Image.Image) -> Grid:
        """The tokens of one picture that became (1, rows, columns) patches."""
        patch, merge = self.image_processor.patch_size, self.image_processor.merge_size
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
