"""The real parts the tasks are made of: handwritten digits, photographs and fonts, each dealt out by split.

* 1,797 handwritten digits (UCI, from scikit-learn), 8×8 pixels: every image belongs to exactly one split.
* Photographs that scikit-learn, scikit-image and matplotlib ship: every photograph belongs to exactly one split.
* The DejaVu fonts that matplotlib ships.

Nothing is downloaded: the library reads all of it from the installed packages and ships no copy. Figures in the stored
notebooks show crops of the photographs (see `NOTICE`).
"""

from __future__ import annotations

import math
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from corelib.core.entries import check_whole
from corelib.core.errors import UnknownName, check_known

SPLITS = ("train", "select", "validate", "test")
SHARES = (0.60, 0.13, 0.13, 0.14)  # of the handwritten digits

PHOTOGRAPHS = {
    "train": ("china", "astronaut", "coffee", "hubble_deep_field", "brick", "retina"),
    "select": ("rocket", "gravel"),
    "validate": ("chelsea", "grass"),
    "test": ("flower", "grace_hopper"),
}
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold")
OTHER_FONTS = ("STIXGeneral", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10")  # that no model was trained on


def check_split(split: str) -> str:
    """`split` itself. Raises: UnknownName if there is no such split."""
    return check_known("split", split, SPLITS)


def generator(domain: str, split: str, seed: int, index: int) -> np.random.Generator:
    """The one source of randomness: a stream that depends on (domain, split, seed, index) and on nothing else.

    Raises: BadInput if seed or index is no whole number, or negative.

    >>> a, b = (generator("scenes", "train", 0, 7).integers(1000) for _ in range(2))
    >>> bool(a == b)
    True
    """
    check_whole("seed", seed), check_whole("index", index)
    return np.random.default_rng([zlib.crc32(domain.encode()), SPLITS.index(check_split(split)), seed, index])


# turn (radians), slant, zoom across, zoom down, shift right, shift down (pixels)
_AUGMENT_LOW = np.array([-0.25, -0.2, 0.82, 0.82, -1.0, -1.0])
_AUGMENT_HIGH = np.array([0.25, 0.2, 1.15, 1.15, 1.0, 1.0])


@lru_cache(maxsize=1)
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # slow to import, so only when a digit is needed

    data = load_digits()
    return (data.images / 16.0 * 255).round().astype(np.uint8), data.target


@lru_cache(maxsize=4)
def digit_indices(split: str) -> tuple[np.ndarray, ...]:
    """For every class 0…9, which of the 1,797 digit images belong to `split`. Fixed for ever by one seed.

    >>> sum(len(c) for s in SPLITS for c in digit_indices(s))
    1797
    """
    check_split(split)
    _, target = _all_digits()
    rng = np.random.default_rng(2606_05843)
    edges = np.cumsum((0.0, *SHARES))
    which = SPLITS.index(split)
    chosen = []
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(target == digit))
        start, stop = (round(edge * len(order)) for edge in edges[which : which + 2])
        chosen.append(order[start:stop])
    return tuple(chosen)


def draw_digit(rng: np.random.Generator, split: str, digit: int, size: int, *, augment: bool) -> Image.Image:
    """One handwritten `digit` as an ink map ("L" image, 255 = ink) of `size` × `size` pixels.

    `augment` turns, slants and scales it at random: for training only, so that a test reads the digit as written.
    """
    images, _ = _all_digits()
    choices = digit_indices(split)[digit]
    ink = Image.fromarray(images[choices[rng.integers(len(choices))]])
    if not augment:
        return ink.resize((size, size), Image.Resampling.BICUBIC)
    angle, slant, zoom_x, zoom_y, dx, dy = rng.uniform(_AUGMENT_LOW, _AUGMENT_HIGH).tolist()
    cos, sin = math.cos(angle), math.sin(angle)
    zx, zy = 8 / size / zoom_x, 8 / size / zoom_y
    a, b, c, d = zx * cos, zx * (slant * cos - sin), zy * sin, zy * (slant * sin + cos)
    x, y = size / 2 + dx, size / 2 + dy
    coefficients = (a, b, 4 - a * x - b * y, c, d, 4 - c * x - d * y)
    return ink.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)


@lru_cache(maxsize=12)
def photograph(name: str) -> Image.Image:
    """A photograph by name, RGB, at most 512 pixels on its longer side.

    Raises: UnknownName if there is no such photograph.
    """
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        pixels = load_sample_image(f"{name}.jpg")
    elif name == "grace_hopper":
        import matplotlib

        pixels = np.asarray(Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    else:
        import skimage

        folder = Path(skimage.__file__).parent / "data"
        path = next((folder / f"{name}{end}" for end in (".png", ".jpg") if (folder / f"{name}{end}").exists()), None)
        if path is None:
            raise UnknownName("photograph", name, [p for split in PHOTOGRAPHS.values() for p in split])
        pixels = np.asarray(Image.open(path))
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    image.thumbnail((512, 512))
    return image


def background(rng: np.random.Generator, split: str, size: tuple[int, int], clutter: float) -> Image.Image:
    """A backdrop of `size` = (width, height): a plain tint at `clutter` 0, the bare photograph at 1."""
    tint = Image.new("RGB", size, tuple(int(c) for c in rng.integers(150, 215) + rng.integers(-14, 15, 3)))
    if clutter <= 0:
        return tint
    photo = photograph(str(rng.choice(PHOTOGRAPHS[check_split(split)])))
    width, height = photo.size
    zoom = rng.uniform(0.5, 1.0) * min(width / size[0], height / size[1])
    w, h = size[0] * zoom, size[1] * zoom
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    crop = photo.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
    return Image.blend(tint, crop, min(1.0, clutter))


@lru_cache(maxsize=64)
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of the fonts that matplotlib ships, at `size` pixels."""
    import matplotlib

    check_known("font", name, (*FONTS, *OTHER_FONTS))
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)
