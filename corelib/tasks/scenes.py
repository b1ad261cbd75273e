"""`scenes`: referring expressions. Coloured shapes on a photograph, each with a real handwritten digit.

    digit on red square ?          → the digit on it (evidence: the red square)
    digit left of red square ?     → the digit on its left neighbour (evidence: the neighbour; anchor: the square)
    digit on red square on page 3 ?  → the same, of several pictures

The colours and shapes of one scene come from a small sub-palette, so at the default difficulty every object
shares its colour or its shape with five others. Neither word alone finds it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from PIL import Image

from corelib.core.errors import check_known
from corelib.tasks.assets import background
from corelib.tasks.base import Picture, Question, Task
from corelib.tasks.shapes import CELL, Thing, paint, palette
from corelib.tasks.wording import reworded

RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}


@dataclass(frozen=True, kw_only=True)
class Scenes(Task):
    """Difficulty: `objects`, `relational`, the canvas (`rows` × `columns` cells of 32 pixels), `clutter`, `jitter`, how
    many `pictures` there are, and how many the album has of which these are an excerpt (`excerpt_of`).

    >>> Scenes().sample("test", seed=0, index=0).question
    'digit on cyan triangle ?'
    """

    name: ClassVar[str] = "scenes"

    objects: int = 12
    rows: int = 6
    columns: int = 6
    relational: float = 0.3  # the share of questions that go by way of a neighbour
    relations: tuple[str, ...] = tuple(RELATIONS)  # the kinds of neighbour that are asked for
    clutter: float = 0.5  # 0: plain background, 1: the bare photograph
    jitter: int = 2
    pictures: int = 1  # of several, the question names one
    wording: str = "plain"  # of the questions, which may be in plain English (`wording.py`)
    excerpt_of: int = 0  # pictures are numbered as an excerpt of an album of so many; 0: from 1

    @property
    def kinds(self) -> dict[str, float]:
        return {"attribute": 1 - self.relational, "relation": self.relational}

    def picture(self, rng: np.random.Generator, split: str) -> Picture:
        cells = self.rows * self.columns
        self._require(1 <= self.objects <= min(36, cells), f"objects must be 1…{min(36, cells)}, got {self.objects}")
        for name in self.relations:
            check_known("relation", name, RELATIONS)
        self._require(0 <= self.relational <= 1, f"relational must lie in [0, 1], got {self.relational}")
        self._require(0 <= self.clutter <= 1, f"clutter must lie in [0, 1], got {self.clutter}")
        self._require(1 <= self.pictures <= 200, f"pictures must be 1…200, got {self.pictures}")
        begin = self.first_of(rng, self.pictures, self.excerpt_of)
        drawn = [self._one(rng, split, number, begin) for number in range(self.pictures)]
        canvases, questions, lists = zip(*drawn, strict=True)
        shown = int(rng.integers(self.pictures)) if self.pictures > 1 else 0
        what = f"list page {begin + shown} :" if self.pictures > 1 else "list :"
        asked = tuple(one for each in questions for one in each)
        return Picture(canvases, asked, (what, lists[shown]), first_page=begin)

    def _one(
        self, rng: np.random.Generator, split: str, number: int, begin: int
    ) -> tuple[Image.Image, list[Question], str]:
        """One picture: itself, what can be asked about it, and the list of what is there."""
        where = rng.permutation(self.rows * self.columns)[: self.objects]
        things = [
            Thing(colour, shape, int(rng.integers(10)), int(cell) // self.columns, int(cell) % self.columns)
            for (colour, shape), cell in zip(palette(rng, self.objects), where, strict=True)
        ]
        plain = rng.random() < 0.25
        canvas = background(rng, split, (self.columns * CELL, self.rows * CELL), 0.0 if plain else self.clutter)
        boxes = {
            thing: replace(paint(canvas, thing, rng, split, jitter=self.jitter, augment=split == "train"), image=number)
            for thing in things
        }
        end = f"on page {begin + number} ?" if self.pictures > 1 else "?"
        at = {(thing.row, thing.column): thing for thing in things}
        questions = []
        for thing in things:
            rivals = tuple(boxes[other] for other in things if other.resembles(thing) and other.digit != thing.digit)
            questions.append(
                Question("attribute", f"digit on {thing.words} {end}", str(thing.digit), (boxes[thing],), rivals)
            )
        for anchor in things:
            neighbours = {
                name: at[anchor.row + dy, anchor.column + dx]
                for name, (dy, dx) in RELATIONS.items()
                if (anchor.row + dy, anchor.column + dx) in at
            }
            for name, target in neighbours.items():
                if name not in self.relations:
                    continue
                others = [t for t in things if t not in (target, anchor)]
                others = [t for t in others if t.resembles(target) or t in neighbours.values()]
                others = [t for t in others if t.digit != target.digit]  # else it would give the right answer
                questions.append(
                    Question(
                        "relation",
                        f"digit {name} {anchor.words} {end}",
                        str(target.digit),
                        (boxes[target],),
                        tuple(boxes[t] for t in others),
                        (boxes[anchor],),
                    )
                )
        questions = [replace(one, text=reworded(one.text, self.wording)) for one in questions]
        in_order = sorted(things, key=lambda t: (t.row, t.column))
        return canvas, questions, " ".join(f"{t.words} {t.digit}" for t in in_order)


SINGLE_OBJECT = replace(Scenes(), objects=1)  # what reading one digit costs: the ceiling of the domain
