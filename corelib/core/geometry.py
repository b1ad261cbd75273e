"""Rectangles of pixels: where on a picture something can be seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corelib.core.errors import BadRegion, check_known


@dataclass(frozen=True, order=True)
class Box:
    """A half-open pixel rectangle `[x0, x1) × [y0, y1)` on one image (page, frame) of a sample.

    >>> Box(0, 0, 4, 2).area
    8
    """

    x0: float
    y0: float
    x1: float
    y1: float
    image: int = 0  # which image, page or frame of the sample

    @property
    def area(self) -> float:
        """In square pixels; 0 if the box is empty."""
        return max(0, self.x1 - self.x0) * max(0, self.y1 - self.y0)


Corners = tuple[float, float, float, float]
FORMS: dict[str, Callable[[Corners, tuple[int, int]], Corners]] = {
    "xyxy": lambda box, size: box,
    "xywh": lambda box, size: (box[0], box[1], box[0] + box[2], box[1] + box[3]),
    "norm": lambda box, size: (box[0] * size[0], box[1] * size[1], box[2] * size[0], box[3] * size[1]),
    "1000": lambda box, size: FORMS["norm"]((box[0] / 1000, box[1] / 1000, box[2] / 1000, box[3] / 1000), size),
}


def box_from(given: Sequence[object], size: tuple[int, int], form: str = "xyxy", image: int = 0) -> Box:
    """A box in pixels, from four numbers in one of the usual conventions.

    Args:
        given: `xyxy`: x0, y0, x1, y1 in pixels; `xywh`: x0, y0, width and height, as in COCO; `norm`: x0, y0, x1, y1
            between 0 and 1; `1000`: the same between 0 and 1000, as Qwen3-VL and InternVL write them.
        size: Width and height of the picture, in pixels.
        form: The convention.
        image: Which picture of the sample it is.

    Raises:
        UnknownName: There is no such convention.
        BadRegion: These are not four numbers, they do not lie in the picture, or the box is smaller than a pixel.

    >>> box_from([0.25, 0.5, 0.5, 1], (200, 100), "norm")
    Box(x0=50.0, y0=50.0, x1=100.0, y1=100.0, image=0)
    """
    convert = FORMS[check_known("box_format", form, FORMS)]
    numbers = [float(one) for one in given if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) != 4 or len(given) != 4 or not all(map(math.isfinite, numbers)):
        raise BadRegion(f"box {list(given)}: give four numbers, {form}")
    x0, y0, x1, y1 = convert((numbers[0], numbers[1], numbers[2], numbers[3]), size)
    told = f"box {list(given)} ({form})"
    if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
        raise BadRegion(f"{told} does not lie in its picture of {size[0]} × {size[1]} pixels")
    if x1 - x0 < 1 or y1 - y0 < 1:
        hint = "; between 0 and 1 it is norm: say box_format" if max(numbers) <= 1 else ""
        raise BadRegion(f"{told} is smaller than a pixel{hint}")
    return Box(x0, y0, x1, y1, image=image)
