"""Which visual tokens cover a region of an image, at any grid of patches.

A vision tower cuts the *resized* image into patches and merges `merge × merge` of them into one token of the language
model, so a token is a square of `patch · merge` pixels. A region counts on a token by the share of its area it covers,

    coverage[t] = |token t ∩ region| / |token t|,        selected when coverage[t] > threshold.

Intervals are half-open: a box that ends exactly on a border does not enter the next token. What sticks out of the
image is cut off; a region with no area, or none inside the image, raises `BadRegion`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from corelib.core.errors import BadInput, BadRegion
from corelib.core.geometry import Box, Mask

TINY = 1e-9  # a share of a token below this is rounding, not coverage


@dataclass(frozen=True)
class Grid:
    """The tokens of one image (or clip) after merging, in raster order, and how its pixels land on them.

    By default the image is stretched over the whole grid, as Qwen-VL does. For an image that was padded, or for one
    tile of a larger one, give the `resized` size and the `shift` of its corner, both in pixels of the grid. Where rows
    and columns of tokens do not lie side by side, give the pixels [start, end) of each: `spans` = (rows, columns).

    >>> Grid(rows=2, columns=3, width=96, height=64).tokens
    6
    """

    rows: int
    columns: int
    width: float  # of the original image, the one that boxes are drawn on
    height: float
    patch: int = 16
    merge: int = 2
    resized: tuple[float, float] | None = None  # (width, height); None: the grid exactly
    shift: tuple[float, float] = (0.0, 0.0)  # where the image's corner (x, y) lies on the grid
    time: int = 1  # slices of a clip
    frames: int = 1  # frames merged into one slice
    spans: tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]] | None = None

    def __post_init__(self) -> None:
        sizes = (self.rows, self.columns, self.width, self.height, self.patch, self.merge, self.time, self.frames)
        if min(*sizes, *(self.resized or ())) <= 0:
            raise BadInput(f"{self} has a size that is not positive: give tokens and pixels above 0")
        if self.spans and tuple(map(len, self.spans)) != (self.rows, self.columns):
            raise BadInput(f"spans of {list(map(len, self.spans))} rows and columns: give {[self.rows, self.columns]}")

    @property
    def token(self) -> int:
        """The side of a token, in pixels of the grid."""
        return self.patch * self.merge

    @property
    def tokens(self) -> int:
        return self.time * self.rows * self.columns

    @property
    def scale(self) -> tuple[float, float]:
        """Grid pixels per original pixel, along x and y."""
        width, height = self.resized or (self.columns * self.token, self.rows * self.token)
        return width / self.width, height / self.height

    def edges(self, axis: int) -> Float[Tensor, "token 2"]:
        """Where the rows (axis 0) or columns (axis 1) of tokens start and end, in pixels of the grid."""
        if self.spans:
            return torch.tensor(self.spans[axis], dtype=torch.float64)
        start = torch.arange((self.rows, self.columns)[axis], dtype=torch.float64) * self.token
        return torch.stack([start, start + self.token], 1)


def _shares(
    pieces: Float[Tensor, "piece 2"], scale: float, shift: float, edges: Float[Tensor, "token 2"]
) -> Float[Tensor, "token piece"]:
    """How much of every token each piece of one axis covers."""
    start, end = (pieces * scale + shift).unbind(1)
    low, high = edges[:, :1], edges[:, 1:]
    return (end.minimum(high) - start.maximum(low)).clamp(min=0) / (high - low)


def _on_grid(grid: Grid, weights: Float[Tensor, "y x"], ys: Tensor, xs: Tensor, image: int) -> Float[Tensor, " token"]:
    down = _shares(ys, grid.scale[1], grid.shift[1], grid.edges(0))
    across = _shares(xs, grid.scale[0], grid.shift[0], grid.edges(1))
    plane = down @ weights @ across.T  # [row, column]
    clip = grid.time * grid.frames > 1
    if clip and not 0 <= image < grid.time * grid.frames:
        raise BadRegion(f"frame {image} is not in a clip of {grid.time * grid.frames} frames")
    out = torch.zeros(grid.time, grid.rows, grid.columns, dtype=torch.float64)
    out[image // grid.frames if clip else 0] = plane.where(plane > TINY, 0.0)
    return out.flatten()


def coverage(grid: Grid, box: Box) -> Float[Tensor, " token"]:
    """The share of every token's area that the box covers, or the pixels of a mask. `box.image` is the frame of a clip.

    Raises: BadRegion if the box has no area, lies outside its image, or on a frame that is not there; if the mask is of
        another size.

    >>> coverage(Grid(rows=1, columns=3, width=96, height=32), Box(16, 0, 64, 32)).tolist()
    [0.5, 1.0, 0.0]
    """
    if isinstance(box, Mask):
        return coverage_of_mask(grid, torch.from_numpy(box.pixels.copy()), box.image)
    x0, x1 = max(box.x0, 0.0), min(box.x1, grid.width)
    y0, y1 = max(box.y0, 0.0), min(box.y1, grid.height)
    if not box.area > 0:
        raise BadRegion(f"{box} has no area: give x0 < x1 and y0 < y1")
    if x0 >= x1 or y0 >= y1:
        raise BadRegion(f"{box} lies outside its image of {grid.width} × {grid.height} pixels")
    xs, ys = (torch.tensor([pair], dtype=torch.float64) for pair in ((x0, x1), (y0, y1)))
    return _on_grid(grid, torch.ones(1, 1, dtype=torch.float64), ys, xs, box.image)


def coverage_of_mask(grid: Grid, mask: Bool[Tensor, "height width"], image: int = 0) -> Float[Tensor, " token"]:
    """The share of every token's area under a pixel mask: exact, whatever the scale between pixels and tokens.

    Raises: BadRegion if the mask is not of the image's size, or marks nothing.
    """
    if tuple(mask.shape) != (grid.height, grid.width):
        raise BadRegion(f"the mask is {list(mask.shape)}: give [height, width] {[grid.height, grid.width]}")
    if not mask.any():
        raise BadRegion("the mask marks no pixel")
    ys, xs = (torch.arange(n, dtype=torch.float64)[:, None] + torch.tensor([0.0, 1.0]) for n in mask.shape)
    return _on_grid(grid, mask.double(), ys, xs, image)


def tokens_of_box(grid: Grid, box: Box, threshold: float = 0.0) -> Int[Tensor, " selected"]:
    """Tokens, in raster order, of which the box covers more than `threshold` (0: any overlap).

    Raises: BadInput for a threshold outside [0, 1), BadRegion if no token is covered by so much.

    >>> tokens_of_box(Grid(rows=2, columns=2, width=64, height=64), Box(0, 0, 32, 33)).tolist()
    [0, 2]
    """
    return _above(coverage(grid, box), threshold)


def tokens_of_mask(
    grid: Grid, mask: Bool[Tensor, "height width"], threshold: float = 0.0, image: int = 0
) -> Int[Tensor, " selected"]:
    """Tokens, in raster order, of which the mask covers more than `threshold`.

    Raises: BadInput for a threshold outside [0, 1), BadRegion if no token is covered by so much.
    """
    return _above(coverage_of_mask(grid, mask, image), threshold)


def _above(shares: Float[Tensor, " token"], threshold: float) -> Int[Tensor, " selected"]:
    if not 0 <= threshold < 1:
        raise BadInput(f"threshold is {threshold}: give a share in [0, 1)")
    selected = (shares > threshold).nonzero().flatten()
    if not len(selected):
        raise BadRegion(f"no token is covered by more than {threshold} (most: {shares.max():.3f}): lower the threshold")
    return selected


def box_of_token(grid: Grid, index: int) -> Box:
    """Where a token lies on the original image, for drawing; in a clip, on the first frame of its slice.

    Raises: BadRegion if the grid has no such token.

    >>> box_of_token(Grid(rows=2, columns=2, width=100, height=50), 3)
    Box(x0=50.0, y0=25.0, x1=100.0, y1=50.0, image=0)
    """
    if not 0 <= index < grid.tokens:
        raise BadRegion(f"token {index} is not on a grid of {grid.tokens} tokens")
    slice_, rest = divmod(index, grid.rows * grid.columns)
    row, column = divmod(rest, grid.columns)

    def back(pixel: float, axis: int, limit: float) -> float:
        return min(max((pixel - grid.shift[axis]) / grid.scale[axis], 0.0), limit)

    x0, x1 = (back(pixel, 0, grid.width) for pixel in grid.edges(1)[column].tolist())
    y0, y1 = (back(pixel, 1, grid.height) for pixel in grid.edges(0)[row].tolist())
    return Box(x0, y0, x1, y1, image=slice_ * grid.frames)
