"""Where on a picture something can be seen: rectangles of pixels, and masks within them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

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


@dataclass(frozen=True, order=True)
class Mask(Box):
    """Marked pixels, and the smallest box around them. `runs` are lengths of unmarked and marked pixels in turn, down
    the columns, as in COCO's run-length encoding; `size` is width and height of the picture.

    >>> one = Mask.of(np.array([[False, True], [False, True], [False, False]]))
    >>> one.runs, one.area, (one.x0, one.y0, one.x1, one.y1)
    ((3, 2, 1), 2.0, (1, 0, 2, 2))
    """

    runs: tuple[int, ...] = ()
    size: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, pixels: Bool[np.ndarray, "height width"], image: int = 0) -> Self:
        """The mask of marked pixels.

        Raises: BadRegion if none is marked.
        """
        pixels = np.asarray(pixels, dtype=bool)
        if pixels.ndim != 2 or not pixels.any():
            raise BadRegion("the mask marks no pixel")
        flat = pixels.T.ravel()
        runs: list[int] = []
        for value, group in groupby(flat.tolist()):
            if value and not runs:
                runs.append(0)
            runs.append(len(list(group)))
        rows, columns = (np.flatnonzero(pixels.any(axis)) for axis in (1, 0))
        corners = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        return cls(*corners, image, tuple(runs), (pixels.shape[1], pixels.shape[0]))

    @classmethod
    def of_runs(cls, runs: Sequence[int], size: tuple[int, int], image: int = 0) -> Self:
        """The mask of run lengths, as COCO writes them uncompressed (`counts`), of a picture of this width and height.

        Raises: BadRegion if the runs do not fill the picture, or mark nothing.

        >>> Mask.of_runs([3, 2, 1], (2, 3)).area
        2.0
        """
        width, height = size
        whole = all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in runs)
        if not whole or sum(runs) != width * height:
            raise BadRegion(
                f"runs must be whole numbers that fill {width} × {height} pixels, and add up to {sum(runs)}"
            )
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return cls.of(flat.reshape(width, height).T, image)

    @classmethod
    def of_polygons(cls, polygons: Sequence[Sequence[float]], size: tuple[int, int], image: int = 0) -> Self:
        """The pixels whose middle lies in one of the polygons, each x0, y0, x1, y1, … in pixels, of a picture of this
        width and height.

        Raises: BadRegion for fewer than three corners, a corner outside the picture, or no pixel inside.

        >>> Mask.of_polygons([[0, 0, 4, 0, 4, 2, 0, 2]], (6, 4)).area
        8.0
        """
        fine = Image.new("1", (3 * size[0], 3 * size[1]))  # PIL marks borders, too: in three times the size, thin ones
        for corners in polygons:
            if len(corners) < 6 or len(corners) % 2:
                raise BadRegion(f"a polygon of {len(corners)} numbers: give x0, y0, x1, y1, … of three corners or more")
            points = list(zip(corners[::2], corners[1::2], strict=True))
            if not all(0 <= x <= size[0] and 0 <= y <= size[1] for x, y in points):
                raise BadRegion(f"polygon {points} does not lie in its picture of {size[0]} × {size[1]} pixels")
            ImageDraw.Draw(fine).polygon([(3 * x - 0.5, 3 * y - 0.5) for x, y in points], fill=1)
        return cls.of(np.array(fine)[1::3, 1::3], image)  # a pixel belongs to a polygon if its middle does

    @property
    def area(self) -> float:
        return float(sum(self.runs[1::2]))

    @property
    def pixels(self) -> Bool[np.ndarray, "height width"]:
        """The marked pixels themselves."""
        flat = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        marked: Bool[np.ndarray, "height width"] = flat.reshape(self.size).T
        return marked


ROUNDING = 1e-6  # pixels, by which a coordinate may miss what it should be
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
    corners = convert((numbers[0], numbers[1], numbers[2], numbers[3]), size)
    x0, y0, x1, y1 = (_unrounded(one, side) for one, side in zip(corners, size * 2, strict=True))
    told = f"box {list(given)} ({form})"
    if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
        raise BadRegion(f"{told} does not lie in its picture of {size[0]} × {size[1]} pixels")
    if min(x1 - x0, y1 - y0) < 1 - ROUNDING:
        hint = "; between 0 and 1 it is norm: say box_format" if max(numbers) <= 1 and form != "norm" else ""
        raise BadRegion(f"{told} is smaller than a pixel{hint}")
    return Box(x0, y0, x1, y1, image=image)


def _unrounded(value: float, side: int) -> float:
    """A coordinate on the border of a picture if rounding alone keeps it from it."""
    border = min(max(value, 0.0), float(side))
    return border if math.isclose(value, border, rel_tol=1e-9, abs_tol=ROUNDING) else value
