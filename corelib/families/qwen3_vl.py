"""Qwen3-VL: each picture, and each frame of a clip, is one run of placeholder tokens on a patch grid.

Patches of `patch_size` pixels are merged `spatial_merge_size`² into one token. Text stands between any two
pictures (page names, timestamps, or at least the vision marks), so a run of visual tokens is one picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from corelib.errors import BadInput
from corelib.families.base import Family, Picture, runs
from corelib.mini.processing import MiniProcessor, fit
from corelib.regions import Grid
from corelib.tasks.sample import Sample


@dataclass(frozen=True)
class Qwen3VL(Family):
    """The adapter of `Qwen3VLForConditionalGeneration`, with the mini models' own prompts."""

    config: object
    processor: MiniProcessor

    def check(self, question: str) -> None:
        tokenizer = self.processor.tokenizer
        asked = tokenizer(question, add_special_tokens=False)["input_ids"]
        if tokenizer.unk_token_id in asked or not asked:
            words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(question.lower())
            strange = [w for w, _ in words if tokenizer.convert_tokens_to_ids(w) == tokenizer.unk_token_id]
            raise BadInput(
                f"the mini models do not know {', '.join(map(repr, strange)) or 'an empty question'}: "
                "ask like 'digit on red square ?', 'digit left of blue star ?', 'room on page 2 ?', "
                "'digit on red square in frame 3 ?' or 'frame of blue star ?'"
            )

    def grid(self, image: Image.Image) -> Grid:
        width, height = fit(image).size
        vision = self.config.vision_config
        merge, patch = vision.spatial_merge_size, vision.patch_size
        cell = patch * merge
        return Grid(height // cell, width // cell, image.width, image.height, patch=patch, merge=merge)

    def visual(self, inputs: dict[str, Tensor]) -> Bool[Tensor, "batch token"]:
        ids = inputs["input_ids"]
        return (ids == self.config.image_token_id) | (ids == self.config.video_token_id)

    def pictures(self, inputs: dict[str, Tensor], samples: list[Sample]) -> list[list[Picture]]:
        vision = self.config.vision_config
        merge = vision.spatial_merge_size
        image_grids = iter(inputs.get("image_grid_thw", torch.empty(0, 3)).tolist())
        video_grids = iter(inputs.get("video_grid_thw", torch.empty(0, 3)).tolist())
        found = []
        for marked, sample in zip(self.visual(inputs), samples, strict=True):
            mine, grid = [], None
            for image, positions in zip(sample.images, runs(marked), strict=True):
                if not sample.video:
                    grid = next(image_grids)
                elif grid is None:
                    grid = next(video_grids)
                _, height, width = (int(side) for side in grid)
                tokens = Grid(
                    rows=height // merge,
                    columns=width // merge,
                    width=image.width,
                    height=image.height,
                    patch=vision.patch_size,
                    merge=merge,
                )
                mine.append(Picture(tokens, positions))
            found.append(mine)
        return found
