"""`folder:`: your own pictures, with a line of JSON for each question.

    corelib score --domain folder:my-data/questions.jsonl --model … --out scores.json

    {"image": "kitchen.jpg", "question": "What is on the stove?", "answer": "kettle", "boxes": [[412, 96, 520, 210]]}
    {"images": ["1.png", "2.png"], "question": "What is the total?", "answer": "97", "boxes": [[80, 40, 130, 60, 1]]}

What else a line may say is told in `folder_record.py`: other answers, masks, whole pages, clips, texts without a
picture. Pictures lie where the file says, seen from the file. Everything is checked before anything is measured.
Nothing leaves the machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from corelib.core.errors import BadInput
from corelib.tasks.folder_record import Seen, record
from corelib.tasks.items import Item, ItemTask

PREFIX = "folder:"
FILE = "questions.jsonl"


@dataclass(frozen=True, kw_only=True)
class Folder(ItemTask):
    """Questions about your own pictures. `path`: the JSONL file, or a folder with `questions.jsonl` in it. Pictures of
    more than `max_pixels` are shown smaller, and what is marked on them with them; 0: as they are."""

    name: ClassVar[str] = "folder"

    path: str
    max_pixels: int = 0
    sha256: str = ""  # of the file and all pictures: others are another task

    @classmethod
    def at(cls, path: str, max_pixels: int = 0) -> Folder:
        """The task of a file, read and checked.

        Raises: BadInput, with file and line, if a record cannot be used.
        """
        if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 0:
            raise BadInput(f"max_pixels is {max_pixels!r}: give a number of pixels, such as 1000000, or 0 for no limit")
        file = _file(path)
        records = cls(path=path, max_pixels=max_pixels).records
        whole = hashlib.sha256(file.read_bytes())
        for name in sorted({name for one in records for name in one.pictures}):
            whole.update(name.encode())
        found = cls(path=path, max_pixels=max_pixels, sha256=whole.hexdigest())
        vars(found)["records"] = records  # read once
        return found

    @property
    def facts(self) -> dict[str, Any]:
        smaller = {"difficulty": {"max_pixels": self.max_pixels}} if self.max_pixels else {}
        return {"domain": PREFIX + self.path, "sha256": self.sha256, **smaller}

    def load(self) -> Iterator[Item]:
        file = _file(self.path)
        seen: dict[Path, Seen] = {}
        for number, line in enumerate(_lines(file), 1):
            if line.strip():
                try:
                    yield record(line, file.parent, seen, self.max_pixels)
                except BadInput as error:
                    raise BadInput(f"{file}, line {number}: {error}") from None


def _file(path: str) -> Path:
    file = Path(path).expanduser()
    file = file / FILE if os.path.isdir(file) else file
    if not os.path.isfile(file):
        raise BadInput(f"{file} is not there: give a JSONL file, or a folder with {FILE} in it")
    return file


def _lines(file: Path) -> list[str]:
    """The lines of a file, at line feeds alone: JSON may hold other separators inside of a text."""
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = file.read_bytes()[: error.start].count(b"\n") + 1
        raise BadInput(f"{file}, line {number}: this is not UTF-8: save the file as UTF-8") from None
