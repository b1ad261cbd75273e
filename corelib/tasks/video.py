"""`video`: which object, which frame. A clip of frames in which objects move and their digits change.

    digit on red square in frame 4 ?   → the digit it carries *in that frame* (evidence: the square there)
    frame of blue star ?               → the one frame that shows it (evidence: the star there)

Regulars stay for the whole clip, move, and carry another digit in every frame. Each frame also has one guest
that no other frame shows (or several). All come from a small sub-palette, so they share colours and shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from corelib.tasks.assets import background
from corelib.tasks.base import Picture, Question, Task
from corelib.tasks.shapes import CELL, Thing, paint, palette


@dataclass(frozen=True, kw_only=True)
class Video(Task):
    """Difficulty: `frames`, `regulars` (objects that stay), `guests` (new ones in each frame), the canvas (`rows` ×
    `columns` cells), `clutter`, `timed` (the share of questions that ask for the frame).

    >>> sample = Video().sample("test", seed=0, index=0)
    >>> sample.question, sample.answer, len(sample.images)
    ('frame of blue diamond ?', '1', 6)
    """

    name: ClassVar[str] = "video"

    frames: int = 6
    regulars: int = 3
    guests: int = 1
    rows: int = 3
    columns: int = 3
    clutter: float = 0.5
    jitter: int = 2
    timed: float = 0.5  # the share of questions that ask for the frame

    @property
    def kinds(self) -> dict[str, float]:
        return {"digit": 1 - self.timed, "frame": self.timed}

    def picture(self, rng: np.random.Generator, split: str) -> Picture:
        cells = self.rows * self.columns
        self._require(1 <= self.frames <= 9, f"frames must be 1…9, got {self.frames}")
        self._require(self.regulars >= 1, f"regulars must be 1 or more, got {self.regulars}")
        self._require(self.guests >= 1, f"guests must be 1 or more, got {self.guests}")
        self._require(self.regulars + self.guests <= cells, f"regulars + guests must be {cells} or less")
        known = self.regulars + self.frames * self.guests
        self._require(known <= 36, f"regulars + frames · guests must be 36 or less, got {known}")
        self._require(0 <= self.timed <= 1, f"timed must lie in [0, 1], got {self.timed}")
        cast = palette(rng, known)
        regulars, guests = cast[: self.regulars], cast[self.regulars :]
        plain = rng.random() < 0.25
        stage = background(rng, split, (self.columns * CELL, self.rows * CELL), 0.0 if plain else self.clutter)
        images, shown = [], []
        for frame in range(self.frames):
            canvas = stage.copy()
            cell_order = rng.permutation(cells)
            mine = guests[frame * self.guests : (frame + 1) * self.guests]
            for (colour, shape), cell in zip([*regulars, *mine], cell_order, strict=False):
                row, column = divmod(int(cell), self.columns)
                thing = Thing(colour, shape, int(rng.integers(10)), row, column)
                box = paint(canvas, thing, rng, split, jitter=self.jitter, augment=split == "train")
                shown.append((frame, thing, replace(box, image=frame)))
            images.append(canvas)
        questions = []
        for frame, thing, box in shown:
            guest = (thing.colour, thing.shape) in guests
            same = [(f, t, b) for f, t, b in shown if t.words == thing.words and f != frame]
            alike = [(f, t, b) for f, t, b in shown if t.resembles(thing)]
            if guest:
                rivals = tuple(b for f, t, b in alike if f != frame)
                questions.append(Question("frame", f"frame of {thing.words} ?", str(frame + 1), (box,), rivals))
            else:
                others = [*same, *[one for one in alike if one[0] == frame]]
                rivals = tuple(b for _, t, b in others if t.digit != thing.digit)  # those of wrong answers
                text = f"digit on {thing.words} in frame {frame + 1} ?"
                questions.append(Question("digit", text, str(thing.digit), (box,), rivals))
        told = int(rng.integers(self.frames))
        in_order = sorted((t for f, t, _ in shown if f == told), key=lambda t: (t.row, t.column))
        caption = (f"list frame {told + 1} :", " ".join(f"{t.words} {t.digit}" for t in in_order))
        return Picture(tuple(images), tuple(questions), caption, video=True)
