"""SmolVLM: every picture, and every frame of a clip, is one run of placeholder tokens on a square canvas.

The adapter of the bridge, whose pictures are small enough to need no splitting into tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from corelib.bridge.processing import BridgeProcessor, cells, scaled
from corelib.errors import BadInput
from corelib.families.base import Family
from corelib.regions import Grid


@dataclass(frozen=True)
class SmolVLM(Family):
    """The adapter of `SmolVLMForConditionalGeneration`, with the bridge's own prompts."""

    config: object
    processor: BridgeProcessor

    def check(self, question: str) -> None:
        if not question.strip():
            raise BadInput("the question is empty: ask like 'digit on red square ?'")

    def grid(self, image: Image.Image) -> Grid:
        size = scaled(image)
        side = cells(size)
        patch, merge = self.config.vision_config.patch_size, self.config.scale_factor
        return Grid(side, side, image.width, image.height, patch=patch, merge=merge, resized=size)

    def visual(self, inputs: dict[str, Tensor]) -> Bool[Tensor, "batch token"]:
        return inputs["input_ids"] == self.config.image_token_id
