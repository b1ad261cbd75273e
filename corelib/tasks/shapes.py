"""Coloured shapes that carry a handwritten digit: the objects of `scenes` and `video`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from corelib.core.geometry import Box
from corelib.tasks.assets import draw_digit

CELL = 32  # pixels: one object per cell, and one visual token per cell in the mini models
INK = 16  # pixels: a handwritten digit, twice its original size, small enough to leave the shape in sight
COLOURS = {
    "red": (222, 52, 52),
    "green": (38, 160, 72),
    "blue": (52, 92, 226),
    "yellow": (246, 208, 48),
    "purple": (150, 62, 196),
    "cyan": (60, 206, 220),
}
SHAPES = ("square", "circle", "triangle", "diamond", "cross", "star")
_DARK_INK = ("yellow", "cyan")  # light objects carry a dark digit


@dataclass(frozen=True)
class Thing:
    """An object in a cell: `row` and `column` on the grid, and the digit written on it."""

    colour: str
    shape: str
    digit: int
    row: int
    column: int

    @property
    def words(self) -> str:
        return f"{self.colour} {self.shape}"

    def resembles(self, other: Thing) -> bool:
        """A hard distractor: shares the colour or the shape, but is not the same object."""
        return (self.colour == other.colour) != (self.shape == other.shape)


def _outline(shape: str, size: float) -> list[tuple[float, float]]:
    """Corners of a shape in a square of `size` pixels."""
    turn = 2 * math.pi
    if shape == "triangle":
        unit = [(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)]
    elif shape == "diamond":
        unit = [(0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)]
    elif shape == "cross":
        a, b = 0.26, 0.74
        unit = [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
    elif shape == "star":
        radius = [0.5 if k % 2 == 0 else 0.27 for k in range(10)]
        unit = [(0.5 + r * math.sin(turn * k / 10), 0.5 - r * math.cos(turn * k / 10)) for k, r in enumerate(radius)]
    else:
        unit = [(0.04, 0.04), (0.96, 0.04), (0.96, 0.96), (0.04, 0.96)]
    return [(x * size, y * size) for x, y in unit]


@lru_cache(maxsize=64)
def _stamp(shape: str, size: int) -> Image.Image:
    """The silhouette of a shape, drawn at twice its size and shrunk: smooth edges."""
    stamp = Image.new("L", (size * 2, size * 2), 0)
    pen = ImageDraw.Draw(stamp)
    if shape == "circle":
        pen.ellipse((1, 1, size * 2 - 2, size * 2 - 2), fill=255)
    else:
        pen.polygon(_outline(shape, size * 2 - 1), fill=255)
    return stamp.resize((size, size), Image.Resampling.BOX)


def paint(
    canvas: Image.Image, thing: Thing, rng: np.random.Generator, split: str, *, jitter: int, augment: bool
) -> Box:
    """Draw `thing` on `canvas` and return the box it covers (without its image index)."""
    size = int(rng.integers(29, 32))
    slack = CELL - size
    move = [min(slack, max(0, slack // 2 + int(m))) for m in rng.integers(-jitter, jitter + 1, 2)]
    left, top = thing.column * CELL + move[0], thing.row * CELL + move[1]
    shade = rng.integers(-14, 15, 3).tolist()
    fill = tuple(min(255, max(0, c + d)) for c, d in zip(COLOURS[thing.colour], shade, strict=True))
    canvas.paste(fill, (left, top), _stamp(thing.shape, size))
    ink = draw_digit(rng, split, thing.digit, INK, augment=augment)
    sink = 4 if thing.shape == "triangle" else 0  # a triangle has its room below the middle
    corner = (left + (size - INK) // 2, top + (size - INK) // 2 + sink)
    canvas.paste((24, 24, 32) if thing.colour in _DARK_INK else (255, 255, 255), corner, ink)
    return Box(left, top, left + size, top + size)


def palette(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """`count` different (colour, shape) pairs from the smallest sub-palette that holds them.

    A small palette makes hard distractors: neither the colour nor the shape alone tells which object is meant.
    """
    sides = [(a, b) for a in range(1, 7) for b in range(1, 7) if a * b >= count and abs(a - b) <= 1]
    smallest = min(a * b for a, b in sides)
    colours, shapes = (
        sides[0]
        if len(sides) == 1
        else [s for s in sides if s[0] * s[1] == smallest][
            int(rng.integers(sum(s[0] * s[1] == smallest for s in sides)))
        ]
    )
    colour_set = rng.choice(list(COLOURS), colours, replace=False)
    shape_set = rng.choice(SHAPES, shapes, replace=False)
    pairs = [(str(c), str(s)) for c in colour_set for s in shape_set]
    return [pairs[k] for k in rng.permutation(len(pairs))[:count]]
