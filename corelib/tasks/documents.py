"""`documents`: find the field, read its value. Rendered pages in real fonts, all values of one type.

    room on page 2 ?      → 4 7 1 (evidence: the printed value; anchor: its label)

Labels recur on other pages with other values, so the page number matters as much as the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw

from corelib.core.geometry import Box
from corelib.tasks.assets import FONTS, background, font
from corelib.tasks.base import Picture, Question, Task

LABELS = (
    "total", "room", "seat", "gate", "code", "desk", "unit", "lane",
    "dock", "shelf", "floor", "table", "block", "train", "berth", "order",
)  # fmt: skip
ROW = 32  # pixels: the height of a line


@dataclass(frozen=True, kw_only=True)
class Documents(Task):
    """Difficulty: `pages`, `fields` a page, `digits` of a value, `clutter`, page `width` in pixels, the `faces` (fonts)
    of which each page has one, and how many pages the document has of which these are an excerpt (`excerpt_of`).

    >>> sample = Documents().sample("test", seed=0, index=0)
    >>> sample.question, sample.answer, len(sample.images)
    ('table on page 1 ?', '755', 2)
    """

    name: ClassVar[str] = "documents"

    pages: int = 2
    fields: int = 8
    digits: int = 3
    clutter: float = 0.15  # how much of a photograph shines through the paper
    width: int = 192
    faces: tuple[str, ...] = FONTS
    excerpt_of: int = 0  # pages are numbered as an excerpt of a document of so many; 0: from 1

    @property
    def kinds(self) -> dict[str, float]:
        return {"field": 1.0}

    def picture(self, rng: np.random.Generator, split: str) -> Picture:
        self._require(1 <= self.pages <= 99, f"pages must be 1…99, got {self.pages}")
        self._require(1 <= self.fields <= len(LABELS), f"fields must be 1…{len(LABELS)}, got {self.fields}")
        self._require(1 <= self.digits <= 5, f"digits must be 1…5, got {self.digits}")
        self._require(len(self.faces) > 0, "faces must name one font or more")
        begin = self.first_of(rng, self.pages, self.excerpt_of)
        images: list[Image.Image] = []
        entries: list[tuple[int, str, str, Box, Box]] = []  # page, label, value, and where these two stand
        for page in range(self.pages):
            image = background(rng, split, (self.width, self.fields * ROW), self.clutter)
            image = Image.blend(image, Image.new("RGB", image.size, (252, 250, 244)), 0.72)
            pen = ImageDraw.Draw(image)
            name, size = str(rng.choice(self.faces)), int(rng.integers(21, 25))
            face = font(name, size)
            ink = tuple(int(c) for c in rng.integers(0, 70, 3))
            margin, column = int(rng.integers(4, 10)), 4 * ROW + int(rng.integers(-2, 3))
            for line, label in enumerate(rng.choice(LABELS, self.fields, replace=False)):
                first = rng.integers(1, 10) if self.digits > 1 else rng.integers(10)
                value = "".join(str(d) for d in (first, *rng.integers(0, 10, self.digits - 1)))
                y = line * ROW + (ROW - size) // 2 - 3 + int(rng.integers(-2, 3))
                boxes: list[Box] = []
                for x, text in ((margin, str(label)), (column, value)):
                    pen.text((x, y), text, font=face, fill=ink)
                    left, top, right, bottom = face.getbbox(text)
                    boxes.append(Box(x + left, y + top, x + right, y + bottom, image=page))
                if rng.random() < 0.5:  # a ruled line below some fields
                    pen.line((margin, (line + 1) * ROW - 2, self.width - margin, (line + 1) * ROW - 2), (170,) * 3)
                entries.append((page, str(label), value, boxes[0], boxes[1]))
            images.append(image)
        questions = tuple(
            Question(
                "field",
                f"{label} on page {begin + page} ?",
                value,
                (value_box,),
                tuple(box for _, _, other, _, box in entries if other != value),  # those of wrong answers
                (label_box,),
            )
            for page, label, value, label_box, value_box in entries
        )
        shown = int(rng.integers(self.pages))
        lines = " ".join(f"{label} {value}" for page, label, value, *_ in entries if page == shown)
        return Picture(tuple(images), questions, (f"list page {begin + shown} :", lines), first_page=begin)
