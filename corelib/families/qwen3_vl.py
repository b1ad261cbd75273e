"""Qwen3-VL: as Qwen2.5-VL, in tokens of 32 × 32 pixels; before every slice of a clip stands its time.

A slice has marks around it like a picture, and so has the whole clip. How many pixels a clip may have is counted over
all its frames: the more there are, the smaller each becomes.
Source: transformers, `models/qwen3_vl/processing_qwen3_vl.py` and `video_processing_qwen3_vl.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

from corelib.core.errors import BadInput
from corelib.families.chat import ImageSpan, PromptImage
from corelib.families.qwen2_5_vl import END, START, VIDEO, Qwen25VL
from corelib.families.regions import Grid


@dataclass(frozen=True)
class Qwen3VL(Qwen25VL):
    """The adapter of `Qwen3VLForConditionalGeneration`."""

    architecture: ClassVar = "Qwen3VLForConditionalGeneration"
    video_defaults: ClassVar = {
        "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 768 * 32 * 32},
        "patch_size": 16,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }

    def patches(self, images: Sequence[Image.Image]) -> Any:
        """Resized to what one frame of so many may have.

        Raises: BadInput for fewer frames than are merged into a slice.
        """
        of, (width, height) = self.frame_processor, images[0].size
        if len(images) < of.temporal_patch_size:
            raise BadInput(
                f"a clip of {len(images)} frame: the processor of Qwen3-VL merges {of.temporal_patch_size}; give more "
                "frames, or a picture"
            )
        rows, columns = smart_resize(
            len(images), height, width, temporal_factor=of.temporal_patch_size, factor=of.patch_size * of.merge_size,
            min_pixels=of.size["shortest_edge"], max_pixels=of.size["longest_edge"],
        )  # fmt: skip
        resized = [image.resize((columns, rows), of.resample) for image in images]
        return of(images=resized, do_resize=False, return_tensors="pt")

    def clip(self, slices: Sequence[tuple[int, ...]], grid: Grid, seconds: float) -> PromptImage:
        text, pieces, pace = "", [], 1 / seconds  # frames a second, by which the stock processor divides
        for number, mine in enumerate(slices):
            middle = (mine[0] / pace + mine[-1] / pace) / 2
            text += f"<{middle:.1f} seconds>{START}{VIDEO * grid.tokens}{END}"
            pieces.append(ImageSpan(mine, grid, torch.arange(grid.tokens) + number * grid.tokens))
        return PromptImage(START + text + END, tuple(pieces))

    def timing(self, seconds: float) -> dict[str, Tensor]:
        return {}
