"""Qwen3-VL: as Qwen2.5-VL, in tokens of 32 × 32 pixels; before every slice of a clip stands its time.

Source: transformers, `models/qwen3_vl/processing_qwen3_vl.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from corelib.families.chat import ImageSpan, PromptImage
from corelib.families.qwen2_5_vl import END, START, VIDEO, Qwen25VL
from corelib.families.regions import Grid


@dataclass(frozen=True)
class Qwen3VL(Qwen25VL):
    """The adapter of `Qwen3VLForConditionalGeneration`."""

    architecture: ClassVar = "Qwen3VLForConditionalGeneration"

    def clip(self, slices: Sequence[tuple[int, ...]], grid: Grid, seconds: float) -> PromptImage:
        merged = self.image_processor.temporal_patch_size
        text, pieces = "", []
        for number, mine in enumerate(slices):
            frames = [*mine, *[mine[-1]] * (merged - len(mine))]
            text += f"<{(frames[0] + frames[-1]) / 2 * seconds:.1f} seconds>{START}{VIDEO * grid.tokens}{END}"
            pieces.append(ImageSpan(mine, grid, torch.arange(grid.tokens) + number * grid.tokens))
        return PromptImage(text, tuple(pieces))

    def timing(self, seconds: float) -> dict[str, Tensor]:
        return {}
