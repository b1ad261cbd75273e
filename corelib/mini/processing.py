"""From words and pictures to tensors, as Qwen3-VL's processor does it, without torchvision.

`MiniProcessor` has the calling convention of transformers' `Qwen3VLProcessor`: texts with one placeholder per
picture (`<|image_pad|>`) or per frame (`<|video_pad|>`) go in; `input_ids`, `pixel_values`, grids and
`mm_token_type_ids` come out. A test holds its pixels to those of transformers' own `Qwen2VLImageProcessor`.
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

from corelib.core.errors import BadInput
from corelib.mini.architecture import MERGE, PATCH
from corelib.mini.prompt import END, opening
from corelib.mini.vocabulary import token_id

CELL = PATCH * MERGE  # pixels a visual token covers, each way
MAX_CELLS = 4096  # visual tokens of one picture, at most


def fit(image: Image.Image) -> Image.Image:
    """Round both sides to multiples of 32 pixels, as the real processor does; shrink what is far too big."""
    shrink = min(1.0, (MAX_CELLS * CELL * CELL / (image.width * image.height)) ** 0.5)
    width, height = (max(1, round(side * shrink / CELL)) * CELL for side in image.size)
    image = image.convert("RGB")
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def patchify(image: Image.Image) -> tuple[Float[Tensor, "patch pixel"], tuple[int, int, int]]:
    """An image as rows of 16×16×3 pixels in [-1, 1], the four patches of a visual token side by side.

    >>> patches, grid = patchify(Image.new("RGB", (64, 32), "white"))
    >>> patches.shape, grid
    (torch.Size([8, 768]), (1, 2, 4))
    """
    pixels = torch.from_numpy(np.array(fit(image))).permute(2, 0, 1)  # [3, height, width]
    rows, columns = pixels.shape[1] // CELL, pixels.shape[2] // CELL
    pixels = pixels.reshape(3, rows, MERGE, PATCH, columns, MERGE, PATCH)
    pixels = pixels.permute(1, 4, 2, 5, 0, 3, 6).reshape(-1, 3 * PATCH * PATCH)
    return pixels.float() / 127.5 - 1, (1, rows * MERGE, columns * MERGE)


@dataclass(frozen=True)
class MiniProcessor:
    """Tokenizer and image preprocessing of the mini models."""

    tokenizer: PreTrainedTokenizerFast
    end = END
    opening = staticmethod(opening)

    @staticmethod
    def asked(question: str) -> str:
        """The question as it is put: the answer follows it."""
        return question

    def __call__(
        self,
        text: Sequence[str],
        images: Sequence[Sequence[Image.Image]] | None = None,
        videos: Sequence[Sequence[Image.Image]] | None = None,
    ) -> dict[str, Tensor]:
        """Encode a batch. `images[i]` are the pictures of text `i`; `videos[i]` the frames of its clip."""
        ids = self.tokenizer(list(text), add_special_tokens=False)["input_ids"]
        return self.pad(*self.expand(ids, images, videos))

    def expand(
        self,
        ids: Sequence[Sequence[int]],
        images: Sequence[Sequence[Image.Image]] | None = None,
        videos: Sequence[Sequence[Image.Image]] | None = None,
    ) -> tuple[list[list[int]], dict[str, Tensor]]:
        """Turn each placeholder into as many tokens as its picture has, and the pictures into patches.

        Returns the longer rows of ids, and pixels [patch, pixel] with their grids [picture, (time, height, width)].
        Raises: BadInput if a row has not one placeholder a picture, or if the frames of a clip differ in size.
        """
        rows = [list(row) for row in ids]
        pixels: dict[str, Tensor] = {}
        for key, pictures in (("image", images), ("video", videos)):
            if not pictures or not any(pictures):
                continue
            token = token_id(self.tokenizer, f"<|{key}_pad|>")
            patches: list[Tensor] = []
            grids: list[tuple[int, int, int]] = []
            expanded: list[list[int]] = []
            for row, mine in zip(rows, pictures, strict=True):
                cut = [patchify(picture) for picture in mine]
                if row.count(token) != len(cut):
                    raise BadInput(f"{len(cut)} pictures for {row.count(token)} placeholders <|{key}_pad|>")
                counts = iter([height * width // MERGE**2 for _, (_, height, width) in cut])
                expanded.append([t for i in row for t in ([i] * next(counts) if i == token else [i])])
                patches += [patch for patch, _ in cut]
                if key == "image":
                    grids += [grid for _, grid in cut]
                elif cut:
                    if len({grid for _, grid in cut}) != 1:
                        raise BadInput("the frames of a clip must have one size")
                    _, height, width = cut[0][1]
                    grids.append((len(cut), height, width))
            rows = expanded
            suffix = "" if key == "image" else "_videos"
            pixels[f"pixel_values{suffix}"] = torch.cat(patches)
            pixels[f"{key}_grid_thw"] = torch.tensor(grids)
        return rows, pixels

    def pad(self, ids: Sequence[Sequence[int]], pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Left-pad to one length; mark which tokens are text (0), image (1) and video (2)."""
        length = max(map(len, ids))
        fill = self.tokenizer.pad_token_id
        input_ids = torch.tensor([[fill] * (length - len(row)) + list(row) for row in ids])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
        image, video = (token_id(self.tokenizer, f"<|{kind}_pad|>") for kind in ("image", "video"))
        kinds = (input_ids == image).int() + 2 * (input_ids == video).int()
        return {"input_ids": input_ids, "attention_mask": mask, "mm_token_type_ids": kinds, **pixels}
