"""Qwen3-VL: each picture, and each frame of a clip, is one run of placeholder tokens on a patch grid.

Patches of `patch_size` pixels are merged `spatial_merge_size`² into one token. Text stands between any two
pictures: page names, timestamps, or at least the vision marks.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from corelib.errors import BadInput
from corelib.families.base import Family
from corelib.mini.processing import MiniProcessor, fit
from corelib.regions import Grid


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
