"""SmolVLM: every picture, and every frame of a clip, is one run of placeholder tokens on a square canvas.

The adapter of the bridge, whose pictures are small enough to need no splitting into tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
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

    def inputs(self, samples: list[Sample], answers: bool) -> tuple[dict[str, Tensor], Int[Tensor, "sample 2"]]:
        rows, lengths = [], []
        for sample in samples:
            if not sample.question.strip():
                raise BadInput("the question is empty: ask like 'digit on red square ?'")
            head = self.processor.opening(
                sample.domain, len(sample.images), video=sample.video, context=sample.context
            )
            parts = [head, self.processor.asked(sample.question), *([sample.answer] if answers else [])]
            ids = self.processor.tokenizer(parts, add_special_tokens=False)["input_ids"]
            rows.append([token for part in ids for token in part])
            lengths.append((len(ids[1]), len(ids[2]) if answers else 0))
        ids, pixels = self.processor.expand(rows, [list(sample.images) for sample in samples])
        return self.processor.pad(ids, pixels), torch.tensor(lengths)

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
