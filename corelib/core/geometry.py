"""Rectangles of pixels: where on a picture something can be seen."""

from __future__ import annotations

from dataclasses import dataclass


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
