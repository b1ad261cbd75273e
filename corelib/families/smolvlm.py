"""SmolVLM: every picture, and every frame of a clip, is one run of placeholder tokens on a square canvas.

The adapter of the bridge, whose pictures are small enough to need no splitting into tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from corelib.bridge.processing import CELL, BridgeProcessor, scaled
from corelib.errors import BadInput
from corelib.families.base import Family, Picture, runs
from corelib.regions import Grid
from corelib.tasks.sample import Sample


@dataclass(frozen=True)
class SmolVLM(Family):
    """The adapter of `SmolVLMForConditionalGeneration`, with the bridge's own prompts."""

    config: object
    processor: BridgeProcessor

    def check(self, question: str) -> None:
        if not question.strip():
            raise BadInput("the question is empty: ask like 'digit on red square ?'")

    def grid(self, image: Image.Image) -> Grid:
        width, height = scaled(image)
        side = -(-max(width, height) // CELL)
        vision = self.config.vision_config
        return Grid(
            rows=side,
            columns=side,
            width=image.width,
            height=image.height,
            patch=vision.patch_size,
            merge=self.config.scale_factor,
            resized=(width, height),
        )

    def visual(self, inputs: dict[str, Tensor]) -> Bool[Tensor, "batch token"]:
        return inputs["input_ids"] == self.config.image_token_id

    def pictures(self, inputs: dict[str, Tensor], samples: list[Sample]) -> list[list[Picture]]:
        return [
            [Picture(self.grid(image), run) for image, run in zip(sample.images, runs(marked), strict=True)]
            for marked, sample in zip(self.visual(inputs), samples, strict=True)
        ]
