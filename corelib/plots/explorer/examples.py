"""Examples as the page holds them: pictures as JPEG, attention in bytes.

Of each head and word there are 2 + squares bytes, head by head, word by word: the share of attention on the evidence
and on all pictures (share · 255), then every square of every picture (√share · 255: so that little attention is kept,
too). A square is `step` × `step` tokens. The bytes are deflated, and written in base64.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from corelib.core.geometry import Box
from corelib.plots.pictures import picture_names

if TYPE_CHECKING:
    from corelib.models.attention_by_word import AttentionByWord

MOST_SQUARES = 12  # along a side of a picture
MOST_PIXELS = 256  # along a side of a picture


def example_json(seen: AttentionByWord) -> dict[str, Any]:
    """One sample with its attention, as the page's script reads it."""
    sample = seen.sample
    names = picture_names(sample.images, sample.video) or ["the picture"]
    steps = [step(one.shape[-2:]) for one in seen.maps]
    return {
        "question": sample.question,
        "answer": sample.answer,
        "said": seen.said,
        "words": [shown(word) for word in seen.words],
        "answering": list(seen.answering),
        "pictures": [
            {
                "name": name,
                "src": data_uri(image),
                "rows": one.shape[-2],
                "columns": one.shape[-1],
                "step": size,
                "boxes": [_fractions(box, image.size) for box in sample.evidence if box.image == number],
            }
            for number, (name, image, one, size) in enumerate(zip(names, sample.images, seen.maps, steps, strict=True))
        ],
        "attention": packed(quantised(seen, steps)),
    }


def step(size: torch.Size) -> int:
    """How many tokens along a side make one square, so that no side has more than `MOST_SQUARES`."""
    return -(-max(size) // MOST_SQUARES)


def quantised(seen: AttentionByWord, steps: list[int]) -> UInt8[Tensor, "layer head word byte"]:
    """Attention as described above."""
    whole = sum(one.sum((-2, -1)) for one in seen.maps)
    totals = torch.stack([seen.evidence, torch.as_tensor(whole)], -1)
    squares = [pooled(one, size).flatten(-2).sqrt() for one, size in zip(seen.maps, steps, strict=True)]
    return (torch.cat([totals, *squares], -1).clamp(0, 1) * 255).round().byte()


def pooled(table: Float[Tensor, "*head row column"], size: int) -> Float[Tensor, "*head y x"]:
    """Sums of `size` × `size` tokens; what is left over at the right and the bottom makes smaller squares.

    >>> pooled(torch.ones(3, 5), 2).tolist()
    [[4.0, 4.0, 2.0], [2.0, 2.0, 1.0]]
    """
    for axis in (-2, -1):
        short = -table.shape[axis] % size
        edge = [0, short] if axis == -1 else [0, 0, 0, short]
        table = torch.nn.functional.pad(table, edge).unflatten(axis, (-1, size)).sum(axis)
    return table


def packed(table: UInt8[Tensor, "*axis"]) -> str:
    """Bytes as text: deflated (zlib), in base64."""
    return b64encode(zlib.compress(table.numpy().tobytes(), 9)).decode()


def data_uri(image: Image.Image) -> str:
    """A picture inside the page: JPEG, no side above `MOST_PIXELS`."""
    small, file = image.convert("RGB"), BytesIO()
    small.thumbnail((MOST_PIXELS, MOST_PIXELS))
    small.save(file, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"


def shown(word: str) -> str:
    """A token as it can be read: marks without their brackets, white space as a sign.

    >>> shown("<|vision_end|>"), shown(" red"), shown("\\n")
    ('vision_end', 'red', '⏎')
    """
    return word.strip().strip("<|>") or word.strip() or ("⏎" if "\n" in word else "␣")


def _fractions(box: Box, size: tuple[int, int]) -> list[float]:
    width, height = size
    return [round(value, 4) for value in (box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height)]
