"""One line of a `folder:`: a question, its answer, and where that can be read.

| key | what |
|---|---|
| `question` | a text |
| `answer` | a text or a number; or a list of answers that are all right, the first of which is scored |
| `rule` | `exact` (left out), `choice` or `box`: how a written answer is judged (`scoring.py`) |
| `image`, `images` | a file, or a list of them: pages, pictures, or with `"video": true` the frames of one clip |
| `seconds` | between two frames of the clip (1, if left out) |
| `boxes` | where the answer stands: x0, y0, x1, y1 in pixels of the picture as a viewer shows it |
| `box_format` | `xyxy` (left out), `xywh`, `norm` (between 0 and 1) or `1000` (between 0 and 1000) |
| `polygons` | the same, as outlines: x0, y0, x1, y1, x2, y2, … in pixels |
| `masks` | the same, as run lengths of COCO: `{"size": [height, width], "counts": [ … ]}` |
| `pages` | whole pictures, by their numbers from 0 |
| `distractors` | boxes of the same kind that would give a wrong answer |
| `context`, `spans` | a text before the question, and the characters [first, past) of it where the answer stands |
| `kind` | a name for this kind of question |

With several pictures, a box or polygon ends with the number of its picture, from 0, and a mask has it as `"image"`. A
line needs a question, an answer, and evidence: boxes, polygons, masks or pages of its pictures, or spans of its text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corelib.core.errors import BadInput, BadRegion, check_known
from corelib.core.geometry import FORMS, Box, Mask, box_from
from corelib.core.pictures import open_picture
from corelib.tasks.items import Item
from corelib.tasks.sample import SECONDS
from corelib.tasks.scoring import RULES

MARKED = ("boxes", "polygons", "masks", "pages")  # ways to say where on pictures an answer stands
KEYS = (
    "question", "answer", "rule", "image", "images", "video", "seconds", *MARKED, "box_format", "distractors",
    "context", "spans", "kind",
)  # fmt: skip
LONGEST = 100_000  # characters of a text
Size = tuple[int, int]  # width and height


@dataclass(frozen=True)
class Seen:
    """A picture that was decoded once."""

    size: Size
    digest: str  # of its file: one file under two names is one picture


def record(line: str, folder: Path, seen: dict[Path, Seen], max_pixels: int = 0) -> Item:
    """What a line says; its pictures are decoded once, and remembered in `seen`.

    Raises: BadInput for anything that cannot be used.
    """
    given = _object(line)
    paths = _pictures(given, folder)
    for path in paths:
        if path not in seen:
            seen[path] = _seen(path)
    sizes = [seen[path].size for path in paths]
    texts = _texts(given, "answer")
    context = _text(given, "context") if "context" in given else ""
    evidence, spans = _evidence(given, sizes), _spans(given, context)
    if not evidence and not spans:
        raise BadInput(f"there is no evidence: give {', '.join(MARKED)} of a picture, or spans of a context")
    shown = [_shown(size, max_pixels) for size in sizes]
    rivals = [_box(one, sizes, _form(given)) for one in _list(given, "distractors")]
    video, digests = _flag(given, "video"), tuple(seen[path].digest for path in paths)
    if video and not paths:
        raise BadInput("a clip without pictures: give its frames as images")
    return Item(
        digests or (hashlib.sha256(context.encode()).hexdigest(),),
        _text(given, "question"),
        texts[0],
        tuple(_scaled(one, sizes[one.image], shown[one.image]) for one in evidence),
        tuple(_scaled(one, sizes[one.image], shown[one.image]) for one in rivals),
        _text(given, "kind") if "kind" in given else "question",
        accepted=tuple(texts[1:]),
        rule=check_known("rule", given["rule"], RULES) if "rule" in given else "",
        video=video,
        seconds=_seconds(given, video),
        context=context,
        spans=spans,
        read=partial(_read, tuple(paths), tuple(shown)),
    )


def _object(line: str) -> Mapping[str, Any]:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON ({error})") from None
    if not isinstance(given, dict):
        raise BadInput(f"found {type(given).__name__}: give an object with question, answer and evidence")
    unknown = sorted(given.keys() - set(KEYS))
    if unknown:
        raise BadInput(f"unknown key {', '.join(unknown)}; allowed: {', '.join(KEYS)}")
    missing = [key for key in ("question", "answer") if key not in given]
    if missing:
        raise BadInput(f"there is no {' and no '.join(missing)}; found: {', '.join(given) or 'nothing'}")
    return given


def _text(given: Mapping[str, Any], key: str) -> str:
    return _as_text(given[key], key)


def _as_text(value: object, key: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    surrogate = isinstance(value, str) and any("\ud800" <= one <= "\udfff" for one in value)  # half of a character
    if not isinstance(value, str) or not value.strip() or surrogate:
        raise BadInput(f"{key} is {value!r:.60}: give a text that is not empty")
    if len(value) > LONGEST:
        raise BadInput(f"{key} has {len(value):,} characters: give at most {LONGEST:,}")
    return value


def _texts(given: Mapping[str, Any], key: str) -> list[str]:
    """One text or several."""
    found = given[key]
    if isinstance(found, list):
        if not found:
            raise BadInput(f"{key} is an empty list: give at least one")
        return list(dict.fromkeys(_as_text(one, key) for one in found))
    return [_as_text(found, key)]


def _pictures(given: Mapping[str, Any], folder: Path) -> list[Path]:
    if "image" in given and "images" in given:
        raise BadInput("both image and images: give one of them")
    names = given.get("images", [given["image"]] if "image" in given else [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise BadInput("give the file of a picture as image, or a list of them as images")
    if not names and "context" not in given:
        raise BadInput("there is neither a picture nor a context: give image, images or context")
    return [folder / name for name in names]


def _flag(given: Mapping[str, Any], key: str) -> bool:
    found = given.get(key, False)
    if not isinstance(found, bool):
        raise BadInput(f"{key} is {found!r}: give true or false")
    return found


def _seconds(given: Mapping[str, Any], video: bool) -> float:
    if "seconds" not in given:
        return SECONDS
    found = given["seconds"]
    if not video:
        raise BadInput('seconds are of a clip: say "video": true, too')
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < float("inf"):
        raise BadInput(f"seconds is {found!r}: give a number above 0, the time between two frames")
    return float(found)


def _evidence(given: Mapping[str, Any], sizes: Sequence[Size]) -> list[Box]:
    read: dict[str, Callable[[object], Box]] = {
        "boxes": lambda one: _box(one, sizes, _form(given)),
        "polygons": lambda one: _polygon(one, sizes),
        "masks": lambda one: _mask(one, sizes),
        "pages": lambda one: Box(0, 0, *sizes[_place(one, sizes)], image=_place(one, sizes)),
    }
    return [read[key](one) for key in MARKED for one in _list(given, key)]


def _list(given: Mapping[str, Any], key: str) -> list[object]:
    found = given.get(key, [])
    if not isinstance(found, list) or (key in given and key in MARKED and not found):
        raise BadInput(f"{key} is {found!r:.60}: give a list that is not empty, such as [[412, 96, 520, 210]]")
    return found


def _form(given: Mapping[str, Any]) -> str:
    return check_known("box_format", _text(given, "box_format"), FORMS) if "box_format" in given else "xyxy"


def _place(given: object, sizes: Sequence[Size]) -> int:
    """The number of a picture."""
    if isinstance(given, bool) or not isinstance(given, int) or given not in range(len(sizes)):
        raise BadInput(f"this is on picture {given!r} of {len(sizes)}; they count from 0")
    return given


def _box(given: object, sizes: Sequence[Size], form: str) -> Box:
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


def _spans(given: Mapping[str, Any], context: str) -> tuple[tuple[int, int], ...]:
    found = given.get("spans", [])
    if not isinstance(found, list) or ("spans" in given and not context):
        raise BadInput("spans are a list of [first, past), characters of a context: give both")
    for one in found:
        whole = isinstance(one, list) and len(one) == 2 and all(type(end) is int for end in one)
        if not whole or not 0 <= one[0] < one[1] <= len(context):
            raise BadInput(f"span {one!r:.40}: give [first, past) within the {len(context)} characters of the context")
    return tuple((first, past) for first, past in found)


def _shown(size: Size, most: int) -> Size:
    """The size in which a picture is shown, of at most so many pixels; 0: as it is."""
    width, height = size
    shrink = min(1.0, (most / (width * height)) ** 0.5) if most else 1.0
    return max(1, int(width * shrink)), max(1, int(height * shrink))


def _scaled(region: Box, before: Size, after: Size) -> Box:
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


def _seen(path: Path) -> Seen:
    return Seen(open_picture(path).size, digest(path))  # decoded now: a damaged file is found before measuring


def digest(path: Path) -> str:
    """What a picture is told by: the SHA-256 of its file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(paths: tuple[Path, ...], shown: tuple[Size, ...]) -> list[Image.Image]:
    pictures = [open_picture(path) for path in paths]
    return [
        one if one.size == size else one.resize(size, Image.Resampling.LANCZOS)
        for one, size in zip(pictures, shown, strict=True)
    ]
