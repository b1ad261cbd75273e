"""From words and pictures to tensors, as SmolVLM's processor does it for a picture that needs no splitting.

A picture stands at the top left of a square canvas, as small as holds it, because SmolVLM's pixel shuffle knows only
squares: a page of 192×256 pixels becomes a canvas of 256×256. Each square of 32×32 pixels is one visual token. The
frames of a clip are so many pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from corelib.bridge.architecture import CANVAS, MERGE, PAD_ID, PATCH, PLACEHOLDER_ID
from corelib.bridge.prompt import END, asked, opening
from corelib.core.errors import BadInput

CELL = PATCH * MERGE  # pixels a visual token covers, each way
PAPER = (236, 236, 236)  # of the canvas beside a picture


def scaled(image: Image.Image) -> tuple[int, int]:
    """The size of the picture on its canvas: its own, or smaller if it is too big."""
    shrink = min(1.0, CANVAS / max(image.size))
    width, height = (max(1, round(side * shrink)) for side in image.size)
    return width, height


def cells(size: tuple[int, int]) -> int:
    """The side, in visual tokens, of the smallest canvas that holds a picture of this size."""
    return -(-max(size) // CELL)


def fit(image: Image.Image) -> tuple[Image.Image, int]:
    """The picture on its square canvas, and the canvas' side in visual tokens."""
    size = scaled(image)
    image = image.convert("RGB")
    image = image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
    side = cells(size)
    canvas = Image.new("RGB", (side * CELL, side * CELL), PAPER)
    canvas.paste(image, (0, 0))
    return canvas, side


def pixels_of(canvas: Image.Image) -> Float[Tensor, "3 height width"]:
    """Pixels in [-1, 1]."""
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1).float() / 127.5 - 1


@dataclass(frozen=True)
class BridgeProcessor:
    """Tokenizer, prompts and image preprocessing of the bridge."""

    tokenizer: PreTrainedTokenizerFast
    end = END
    opening = staticmethod(opening)
    asked = staticmethod(asked)

    def expand(
        self,
        ids: Sequence[Sequence[int]],
        images: Sequence[Sequence[Image.Image]] | None = None,
        videos: Sequence[Sequence[Image.Image]] | None = None,
    ) -> tuple[list[list[int]], dict[str, Tensor]]:
        """Turn each placeholder into as many tokens as its picture has, and the pictures into canvases.

        All pictures of a batch need one canvas. A row with fewer pictures than others is filled up with zeros, which
        the model leaves out.

        Raises: BadInput if pictures need different canvases, or if a row has not as many pictures as placeholders.
        """
        shown = [[*a, *b] for a, b in zip(images or [[]] * len(ids), videos or [[]] * len(ids), strict=True)]
        if not any(shown):
            return [list(row) for row in ids], {}
        fitted = [[fit(picture) for picture in row] for row in shown]
        sides = {side for row in fitted for _, side in row}
        if len(sides) != 1:
            needed = ", ".join(f"{CELL * side}×{CELL * side}" for side in sorted(sides))
            raise BadInput(f"pictures of one batch need one canvas, these need {needed} pixels: encode them apart")
        side = sides.pop()
        expanded = []
        for row, mine in zip(ids, fitted, strict=True):
            if list(row).count(PLACEHOLDER_ID) != len(mine):
                raise BadInput(f"{len(mine)} pictures for {list(row).count(PLACEHOLDER_ID)} placeholders")
            expanded.append([t for i in row for t in ([i] * side**2 if i == PLACEHOLDER_ID else [i])])
        canvases = torch.zeros(len(ids), max(map(len, fitted)), 3, side * CELL, side * CELL)
        for number, mine in enumerate(fitted):
            for place, (canvas, _) in enumerate(mine):
                canvases[number, place] = pixels_of(canvas)
        return expanded, {"pixel_values": canvases}

    def pad(self, ids: Sequence[Sequence[int]], pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Left-pad to one length."""
        length = max(map(len, ids))
        input_ids = torch.tensor([[PAD_ID] * (length - len(row)) + list(row) for row in ids])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
        return {"input_ids": input_ids, "attention_mask": mask, **pixels}
