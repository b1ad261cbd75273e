"""`folder:`: your own pictures, with a line of JSON for each question.

    corelib score --domain folder:my-data/questions.jsonl --model … --out scores.json

    {"image": "kitchen.jpg", "question": "What is on the stove?", "answer": "kettle", "boxes": [[412, 96, 520, 210]]}
    {"images": ["1.png", "2.png"], "question": "What is the total?", "answer": "97", "boxes": [[80, 40, 130, 60, 1]]}

A box is x0, y0, x1, y1 in pixels of its picture as a viewer shows it, and with several pictures the number of the
picture, from 0. `"box_format"` says if it is something else: `xywh` (x0, y0, width, height), `norm` (between 0 and 1)
or `1000` (between 0 and 1000). Pictures lie where the file says, seen from the file. `distractors` (boxes of the same
kind as the evidence) and `kind` may be given too. Everything is checked before anything is measured. Nothing leaves the
machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from corelib.core.errors import BadInput
from corelib.core.geometry import Box, box_from
from corelib.core.pictures import open_picture
from corelib.tasks.items import Item, ItemTask

PREFIX = "folder:"
NEEDED, ALLOWED = {"question", "answer", "boxes"}, {"image", "images", "distractors", "kind", "box_format"}
FILE = "questions.jsonl"


@dataclass(frozen=True)
class Seen:
    """A picture that was decoded once."""

    size: tuple[int, int]
    digest: str  # of its file: one file under two names is one picture


@dataclass(frozen=True, kw_only=True)
class Folder(ItemTask):
    """Questions about your own pictures. `path`: the JSONL file, or a folder with `questions.jsonl` in it."""

    name: ClassVar[str] = "folder"

    path: str
    sha256: str = ""  # of the file and all pictures: others are another task

    @classmethod
    def at(cls, path: str) -> Folder:
        """The task of a file, read and checked.

        Raises: BadInput, with file and line, if a record cannot be used.
        """
        file = _file(path)
        records = cls(path=path).records
        whole = hashlib.sha256(file.read_bytes())
        for name in sorted({name for record in records for name in record.pictures}):
            whole.update(name.encode())
        found = cls(path=path, sha256=whole.hexdigest())
        vars(found)["records"] = records  # read once
        return found

    @property
    def facts(self) -> dict[str, Any]:
        return {"domain": PREFIX + self.path, "sha256": self.sha256}

    def load(self) -> Iterator[Item]:
        file = _file(self.path)
        seen: dict[Path, Seen] = {}
        for number, line in enumerate(_lines(file), 1):
            if line.strip():
                try:
                    yield _record(line, file.parent, seen)
                except BadInput as error:
                    raise BadInput(f"{file}, line {number}: {error}") from None


def _file(path: str) -> Path:
    file = Path(path).expanduser()
    file = file / FILE if file.is_dir() else file
    if not file.is_file():
        raise BadInput(f"{file} is not there: give a JSONL file, or a folder with {FILE} in it")
    return file


def _lines(file: Path) -> list[str]:
    """The lines of a file, at line feeds alone: JSON may hold other separators inside of a text."""
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = file.read_bytes()[: error.start].count(b"\n") + 1
        raise BadInput(f"{file}, line {number}: this is not UTF-8: save the file as UTF-8") from None


def _record(line: str, folder: Path, seen: dict[Path, Seen]) -> Item:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON ({error})") from None
    if not isinstance(given, dict) or not NEEDED <= given.keys() <= NEEDED | ALLOWED or not _one_of(given):
        keys = ", ".join(sorted(given)) if isinstance(given, dict) else type(given).__name__
        raise BadInput(
            f"found {keys}; needed are question, answer, boxes, and image or images; allowed are kind, "
            "distractors and box_format"
        )
    for key in ("question", "answer", *(one for one in ("kind", "box_format") if one in given)):
        if not isinstance(given[key], str) or not given[key].strip() or not _is_text(given[key]):
            raise BadInput(f"{key} is {given[key]!r}: give a text that is not empty")
    names = given["images"] if "images" in given else [given["image"]]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise BadInput("give the file of a picture as image, or a list of them as images")
    paths = [folder / name for name in names]
    for path in paths:
        if path not in seen:
            seen[path] = _seen(path)
    sizes, digests = [seen[path].size for path in paths], tuple(seen[path].digest for path in paths)
    if not given["boxes"]:
        raise BadInput("boxes is empty: give at least one, where the answer can be read")
    form = given.get("box_format", "xyxy")
    boxes, others = (tuple(_box(box, sizes, form) for box in _list(given, key)) for key in ("boxes", "distractors"))
    kind, read = given.get("kind", "question"), partial(_read, tuple(paths))
    return Item(digests, given["question"], given["answer"], boxes, others, kind, read=read)


def _is_text(text: str) -> bool:
    """JSON can spell half of a pair of surrogates, which is no character."""
    return not any("\ud800" <= one <= "\udfff" for one in text)


def _list(given: Mapping[str, Any], key: str) -> list[object]:
    found = given.get(key, [])
    if not isinstance(found, list):
        raise BadInput(f"{key} is {found!r}: give a list of boxes, such as [[412, 96, 520, 210]]")
    return found


def _one_of(given: Mapping[str, Any]) -> bool:
    return ("image" in given) != ("images" in given)


def _seen(path: Path) -> Seen:
    return Seen(
        open_picture(path).size, digest(path)
    )  # decoded now: a damaged file is found before anything is measured


def digest(path: Path) -> str:
    """What a picture is told by: the SHA-256 of its file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _box(given: object, sizes: Sequence[tuple[int, int]], form: str) -> Box:
    if not isinstance(given, list) or len(given) not in (4, 5):
        raise BadInput(f"box {given}: give [x0, y0, x1, y1], and with several pictures the picture's number")
    image = given[4] if len(given) == 5 else 0
    if isinstance(image, bool) or image not in range(len(sizes)):
        raise BadInput(f"box {given} is on picture {image} of {len(sizes)}; they count from 0")
    return box_from(given[:4], sizes[image], form, image)


def _read(paths: tuple[Path, ...]) -> list[Image.Image]:
    return [open_picture(path) for path in paths]
