"""The one place where pictures are opened: as a viewer shows them, or not at all.

    image = open_picture("page-1.jpg")       # RGB, upright, transparency on white

A camera notes how it was held, and viewers turn its photographs: so does this (EXIF). What is transparent is laid on
white, as on paper. Sixteen bits become eight by their scale. A file that holds several pictures is refused, for it does
not say which of them is meant; so is one that is damaged, or too large.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from corelib.core.errors import BadInput

MOST_PIXELS = 64_000_000  # 8,000 × 8,000: the largest cameras, and pages at 600 dots an inch
ONE_PICTURE = ("MPO",)  # formats whose further frames are previews of the first
DEPTH = 257  # of 16 bits over 8: 65,535 / 255
WHITE = (255, 255, 255, 255)
Pictured: TypeAlias = str | Path | Image.Image  # a file, or a picture that is open


def open_picture(source: str | Path | bytes | Image.Image, name: str = "", most: int = MOST_PIXELS) -> Image.Image:
    """A picture in RGB, 8 bits a channel, upright.

    Args:
        source: A file, its bytes, or a picture that is open.
        name: What to call it in an error; without it, the file's own name.
        most: Pixels, at the most.

    Raises:
        BadInput: There is no picture to be read, it is damaged, it has more than `most` pixels, it holds several, or
            its values have no known scale.

    >>> clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    >>> open_picture(clear).getpixel((0, 0))
    (255, 255, 255)
    """
    called = name or (str(source) if isinstance(source, str | Path) else "given")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we count for ourselves
            image = source if isinstance(source, Image.Image) else Image.open(_file(source))
            _check(image, called, most)
            image.load()
            return _plain(ImageOps.exif_transpose(image), called)
    except BadInput:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise BadInput(f"cannot read the picture {called} ({_reason(error)}): give a PNG or JPEG file") from None


def open_pictures(given: Pictured | Sequence[Pictured]) -> tuple[Image.Image, ...]:
    """One picture or several, each a file or a picture that is open, in RGB.

    Raises:
        BadInput: Something is neither, and what `open_picture` raises.
    """
    several = [given] if isinstance(given, str | Path | Image.Image) else given
    if not isinstance(several, Iterable):
        raise BadInput(f"{given!r:.60} is no picture: give a file, a PIL image, or a list of them")
    return tuple(_one(number, one) for number, one in enumerate(several))


def _one(number: int, given: object) -> Image.Image:
    if not isinstance(given, str | Path | Image.Image):
        raise BadInput(
            f"picture {number} is a {type(given).__name__}: give a file or a PIL image (of an array, Image.fromarray)"
        )
    return open_picture(given, name=f"picture {number}" if isinstance(given, Image.Image) else "")


def _file(source: str | Path | bytes) -> Path | BytesIO:
    if isinstance(source, bytes):
        return BytesIO(source)
    path = Path(source)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise BadInput(f"{path} is a device or a pipe: give a PNG or JPEG file")
    return path


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]


def _check(image: Image.Image, called: str, most: int) -> None:
    """Before a pixel is decoded."""
    width, height = image.size
    if width * height > most:
        raise BadInput(f"the picture {called} has {width} × {height} pixels: give at most {most:,}, a smaller one")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in ONE_PICTURE:
        raise BadInput(f"{called} holds {frames} pictures (animated, or pages): give each as a file of its own")


def _plain(image: Image.Image, called: str) -> Image.Image:
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise BadInput(f"the picture {called} holds numbers without a known scale ({image.mode}): give 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would cut them off at 255
        deep = np.asarray(image.convert("I"))
        shown = np.where(deep == image.info.get("transparency", -1), 255, np.rint(deep / DEPTH))
        return Image.fromarray(shown.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")
    return image.convert("RGB")
