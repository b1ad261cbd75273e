"""One line of a `folder:`: a question, its answer, and where that can be read.

| key | what |
|---|---|
| `question` | a text |
| `answer` | a text or a number; or a list of answers that are all right, the first of which is scored |
| `rule` | `exact` (left out), `choice` or `box`: how a written answer is judged (`scoring.py`) |
| `image`, `images` | a file, or a list of them: pages, pictures, or with `"video": true` the frames of one clip |
| `seconds` | between two frames of the clip (1, if left out), for families whose prompts name the time |
| `boxes` | where the answer stands: x0, y0, x1, y1 in pixels of the picture as a viewer shows it |
| `box_format` | `xyxy` (left out), `xywh`, `norm` (between 0 and 1) or `1000` (between 0 and 1000) |
| `polygons` | the same, as outlines: x0, y0, x1, y1, x2, y2, … in pixels |
| `masks` | the same, as run lengths of COCO: `{"size": [height, width], "counts": [ … ]}` |
| `pages` | whole pictures, by their numbers from 0 |
| `distractors` | boxes of the same kind that would give a wrong answer |
| `context`, `spans` | a text before the question, and the characters [first, past) of it where the answer stands |
| `kind` | a name for this kind of question |

A file is named from the folder of the list, and may lie elsewhere: `../`, an absolute name and links are followed.
Nothing but its pixels is used, and nothing leaves the machine.

With several pictures, a box or polygon ends with the number of its picture, from 0, and a mask has it as `"image"`. A
line needs a question, an answer, and evidence: boxes, polygons, masks or pages of its pictures, or spans of its text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from corelib.core.entries import LARGEST
from corelib.core.errors import BadInput, check_known
from corelib.core.pictures import open_picture
from corelib.tasks.folder_regions import (
    MARKED,
    Size,
    as_text,
    box_of,
    evidence_of,
    form_of,
    listed,
    scaled,
    shown_size,
    spans_of,
)
from corelib.tasks.items import Item
from corelib.tasks.sample import SECONDS
from corelib.tasks.scoring import RULES

KEYS = (
    "question", "answer", "rule", "image", "images", "video", "seconds", *MARKED, "box_format", "distractors",
    "context", "spans", "kind",
)  # fmt: skip


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
    evidence, spans = evidence_of(given, sizes), spans_of(given, context)
    if not evidence and not spans:
        raise BadInput(f"there is no evidence: give {', '.join(MARKED)} of a picture, or spans of a context")
    shown = [shown_size(size, max_pixels) for size in sizes]
    rivals = [box_of(one, sizes, form_of(given)) for one in listed(given, "distractors")]
    video, digests = _flag(given, "video"), tuple(seen[path].digest for path in paths)
    if video and not paths:
        raise BadInput("a clip without pictures: give its frames as images")
    return Item(
        digests or (hashlib.sha256(context.encode()).hexdigest(),),
        _text(given, "question"),
        texts[0],
        tuple(scaled(one, sizes[one.image], shown[one.image]) for one in evidence),
        tuple(scaled(one, sizes[one.image], shown[one.image]) for one in rivals),
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
        given = json.loads(line, parse_int=_number, parse_float=_number, parse_constant=_number)
    except BadInput:
        raise
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


def _number(text: str) -> float:
    """A number of JSON that can be computed with."""
    found = float(text)
    if not abs(found) < LARGEST:
        raise BadInput(f"{text:.20} is no number that can be computed with")
    return int(text) if text.lstrip("-").isdecimal() else found


def _text(given: Mapping[str, Any], key: str) -> str:
    return as_text(given[key], key)


def _texts(given: Mapping[str, Any], key: str) -> list[str]:
    """One text or several."""
    found = given[key]
    if isinstance(found, list):
        if not found:
            raise BadInput(f"{key} is an empty list: give at least one")
        return list(dict.fromkeys(as_text(one, key) for one in found))
    return [as_text(found, key)]


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
