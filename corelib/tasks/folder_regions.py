"""Where the answer of a folder's line stands: boxes, outlines, masks and whole pages of pictures, spans of its text.

`folder_record.py` says what each key means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from corelib.core.errors import BadInput, BadRegion, check_known
from corelib.core.geometry import FORMS, Box, Mask, box_from

MARKED = ("boxes", "polygons", "masks", "pages")  # ways to say where on pictures an answer stands
LONGEST = 100_000  # characters of a text
Size = tuple[int, int]  # width and height


def as_text(value: object, key: str) -> str:
    """A text, or a number as one.

    Raises: BadInput if it is neither, empty, no text at all or too long.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    surrogate = isinstance(value, str) and any("\ud800" <= one <= "\udfff" for one in value)  # half of a character
    if not isinstance(value, str) or not value.strip() or surrogate:
        raise BadInput(f"{key} is {value!r:.60}: give a text that is not empty")
    if len(value) > LONGEST:
        raise BadInput(f"{key} has {len(value):,} characters: give at most {LONGEST:,}")
    return value


def evidence_of(given: Mapping[str, Any], sizes: Sequence[Size]) -> list[Box]:
    """All that is marked on the pictures of a line, whose sizes are given.

    Raises: BadInput for what cannot be used, BadRegion for what does not lie in its picture.
    """
    read: dict[str, Callable[[object], Box]] = {
        "boxes": lambda one: box_of(one, sizes, form_of(given)),
        "polygons": lambda one: _polygon(one, sizes),
        "masks": lambda one: _mask(one, sizes),
        "pages": lambda one: Box(0, 0, *sizes[_place(one, sizes)], image=_place(one, sizes)),
    }
    return [read[key](one) for key in MARKED for one in listed(given, key)]


def listed(given: Mapping[str, Any], key: str) -> list[object]:
    """The list under a key; none, if the key is not there.

    Raises: BadInput if it is no list, or empty where something must be marked.
    """
    found = given.get(key, [])
    if not isinstance(found, list) or (key in given and key in MARKED and not found):
        raise BadInput(f"{key} is {found!r:.60}: give a list that is not empty, such as [[412, 96, 520, 210]]")
    return found


def form_of(given: Mapping[str, Any]) -> str:
    """The convention of its boxes.

    Raises: UnknownName if there is no such convention, BadInput if it is no text.
    """
    return check_known("box_format", as_text(given.get("box_format", "xyxy"), "box_format"), FORMS)


def _place(given: object, sizes: Sequence[Size]) -> int:
    """The number of a picture."""
    if isinstance(given, bool) or not isinstance(given, int) or given not in range(len(sizes)):
        raise BadInput(f"this is on picture {given!r} of {len(sizes)}; they count from 0")
    return given


def box_of(given: object, sizes: Sequence[Size], form: str) -> Box:
    """A box on one of the pictures, in a convention.

    Raises: BadInput if these are no four or five numbers of such a box, BadRegion if it does not lie in its picture.
    """
    if not isinstance(given, list) or len(given) not in (4, 5):
        raise BadInput(f"box {given!r:.60}: give [x0, y0, x1, y1], and with several pictures the picture's number")
    image = _place(given[4] if len(given) == 5 else 0, sizes)
    return box_from(given[:4], sizes[image], form, image)


def _polygon(given: object, sizes: Sequence[Size]) -> Mask:
    numbers = given if isinstance(given, list) else []
    if not numbers or any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        raise BadInput(f"polygon {given!r:.60}: give x0, y0, x1, y1, …, and with several pictures the picture's number")
    image = _place(numbers[-1] if len(numbers) % 2 else 0, sizes)
    return Mask.of_polygons([numbers[: len(numbers) // 2 * 2]], sizes[image], image)


def _mask(given: object, sizes: Sequence[Size]) -> Mask:
    mask = given if isinstance(given, dict) else {}
    if not {"size", "counts"} <= mask.keys() <= {"size", "counts", "image"} or not isinstance(mask["counts"], list):
        raise BadInput('a mask is {"size": [height, width], "counts": [ run lengths ]}; compressed ones are not read')
    image = _place(mask.get("image", 0), sizes)
    width, height = sizes[image]
    if mask["size"] != [height, width]:
        raise BadInput(f"the mask is of {mask['size']} pixels (height, width), its picture of {[height, width]}")
    return Mask.of_runs(mask["counts"], (width, height), image)


def spans_of(given: Mapping[str, Any], context: str) -> tuple[tuple[int, int], ...]:
    """Where the answer stands in a text, as characters [first, past).

    Raises: BadInput if they do not lie in it, or there is no text.
    """
    found = given.get("spans", [])
    if not isinstance(found, list) or ("spans" in given and not context):
        raise BadInput("spans are a list of [first, past), characters of a context: give both")
    for one in found:
        whole = isinstance(one, list) and len(one) == 2 and all(type(end) is int for end in one)
        if not whole or not 0 <= one[0] < one[1] <= len(context):
            raise BadInput(f"span {one!r:.40}: give [first, past) within the {len(context)} characters of the context")
    return tuple((first, past) for first, past in found)


def shown_size(size: Size, most: int) -> Size:
    """The size in which a picture is shown, of at most so many pixels; 0: as it is."""
    width, height = size
    shrink = min(1.0, (most / (width * height)) ** 0.5) if most else 1.0
    return max(1, int(width * shrink)), max(1, int(height * shrink))


def scaled(region: Box, before: Size, after: Size) -> Box:
    """The same place on a picture that is shown smaller.

    Raises: BadRegion if nothing of a mask is left.
    """
    if before == after:
        return region
    x, y = after[0] / before[0], after[1] / before[1]
    if not isinstance(region, Mask):
        return replace(region, x0=region.x0 * x, y0=region.y0 * y, x1=region.x1 * x, y1=region.y1 * y)
    pixels = np.array(Image.fromarray(region.pixels).resize(after, Image.Resampling.NEAREST))
    if not pixels.any():
        raise BadRegion(f"a mask of {region.area:.0f} pixels vanishes on a picture of {after[0]} × {after[1]} pixels")
    return Mask.of(pixels, region.image)
