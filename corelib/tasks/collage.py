"""`collage`: which of many photographs shows it? Real photographs on one canvas, each with a printed number.

    Which number is printed on a cat?      → 7 (evidence: the number; anchor: the photograph)
    In which row is a cat?                 → 2 (evidence: the photograph)

For models that know the world and English. Every split asks for other photographs, so that heads are not tested on the
pictures that ranked them; those that are not asked for may lie on any canvas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw

from corelib.core.geometry import Box
from corelib.tasks.assets import font, photograph
from corelib.tasks.base import Picture, Question, Task

SOUGHT = {  # what is asked for, by split (our words)
    "train": {"astronaut": "an astronaut", "brick": "bricks", "hubble_deep_field": "a sky full of galaxies"},
    "select": {"coffee": "a cup of coffee", "rocket": "a rocket", "grass": "grass"},
    "validate": {"china": "a temple", "grace_hopper": "an officer in uniform", "gravel": "gravel"},
    "test": {"chelsea": "a cat", "flower": "a flower", "retina": "the inside of an eye"},
}
NAMES = {name: words for split in SOUGHT.values() for name, words in split.items()}


@dataclass(frozen=True, kw_only=True)
class Collage(Task):
    """Difficulty: `rows` and `columns` of photographs, the `side` of each in pixels, how often a `place` is asked for.

    >>> sample = Collage().sample("test", seed=0, index=0)
    >>> sample.question.split()[0], len(sample.images), len(sample.distractors)
    ('Which', 1, 8)
    """

    name: ClassVar[str] = "collage"

    rows: int = 3
    columns: int = 3
    side: int = 160
    place: float = 0.3  # the share of questions that ask in which row something is

    @property
    def kinds(self) -> dict[str, float]:
        return {"number": 1 - self.place, "row": self.place}

    def picture(self, rng: np.random.Generator, split: str) -> Picture:
        count = self.rows * self.columns
        self._require(2 <= count <= 9, f"rows × columns must be 2…9, got {self.rows} × {self.columns}")
        self._require(64 <= self.side <= 512, f"side must be 64…512 pixels, got {self.side}")
        self._require(0 <= self.place <= 1, f"place must lie in [0, 1], got {self.place}")
        asked = [str(name) for name in rng.permutation(list(SOUGHT[split]))][:count]
        others = [str(name) for name in rng.permutation([name for name in NAMES if name not in asked])]
        names = [str(name) for name in rng.permutation((asked + others)[:count])]
        numbers = rng.permutation(np.arange(1, 10))[:count]
        canvas = Image.new("RGB", (self.columns * self.side, self.rows * self.side))
        cells, badges = [], []
        for place, (name, number) in enumerate(zip(names, numbers, strict=True)):
            x, y = place % self.columns * self.side, place // self.columns * self.side
            canvas.paste(_cropped(photograph(name), self.side, rng), (x, y))
            cells.append(Box(x, y, x + self.side, y + self.side))
            badges.append(_badge(canvas, x, y, self.side, str(number), rng))
        questions = []
        for place, (name, number) in enumerate(zip(names, numbers, strict=True)):
            if name not in asked:
                continue
            rivals = tuple(badge for other, badge in enumerate(badges) if other != place)
            questions.append(
                Question(
                    "number",
                    f"Which number is printed on {NAMES[name]}?",
                    str(number),
                    (badges[place],),
                    rivals,
                    (cells[place],),
                )
            )
            row = place // self.columns
            elsewhere = tuple(cell for other, cell in enumerate(cells) if other // self.columns != row)
            questions.append(
                Question("row", f"In which row is {NAMES[name]}?", str(row + 1), (cells[place],), elsewhere)
            )
        return Picture((canvas,), tuple(questions))


def _cropped(photo: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    """The largest square of a photograph, moved at random, at the size of a cell."""
    edge = min(photo.size)
    left, top = (int(rng.integers(0, length - edge + 1)) for length in photo.size)
    return photo.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + edge, top + edge))


def _badge(canvas: Image.Image, x: int, y: int, side: int, text: str, rng: np.random.Generator) -> Box:
    """A number on white paper somewhere on a photograph."""
    size = side // 4
    left, top = (int(origin + rng.integers(4, side - size - 4)) for origin in (x, y))
    pen, face = ImageDraw.Draw(canvas), font("DejaVuSans-Bold", size * 3 // 4)
    pen.rectangle((left, top, left + size - 1, top + size - 1), fill="white", outline="black")
    pen.text((left + size / 2, top + size / 2), text, font=face, fill="black", anchor="mm")
    return Box(left, top, left + size, top + size)
