"""What a mini model is shown, and when: first to see, then to find, then to relate, then everything.

*Seeing*: pictures of few things, and no question, only "list what is there". A question names what it asks for, so a
caption after it can be copied from the question: the model would never learn to read.
*Placing* and *polishing*: the vision tower alone learns what stands where and beside what (`placing.py`), at last at a
falling rate. Then it is finished, and stays as it is.
*Finding*: behind that tower, a new language model begins; one that has learned to list gets stuck at one attribute. One
attribute alone leaves two or three candidates, because easier pictures reward shortcuts. Batches are large: small ones
do not get past one attribute either.
*Relating*: from a thing that was found to what stands beside it, one side and one axis after the other (all at once,
the model finds *a* neighbour and stays there), where many things stand; from one page to two; and to the frame a thing
is in. That is asked with several guests a frame: with one, each answer rules a frame out for the next question.
*Everything*: all tasks together, each on a ladder that ends beyond its default difficulty. The text tasks come only
now: a model that first learns to copy from text does not look.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from corelib.tasks.scenes import RELATIONS

SIDES = tuple(RELATIONS)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One difficulty, how many pictures of it make a batch, and how many questions are asked about each."""

    difficulty: dict
    pictures: int
    questions: int  # 0: the model only lists what it sees; a tower that learns alone is asked nothing


def _scenes(
    objects: int, side: int, pictures: int, questions: int, relational: float = 0.3, sides: tuple[str, ...] = SIDES
) -> Rung:
    shown = {"objects": objects, "rows": side, "columns": side}
    difficulty = {**shown, "relational": relational, "relations": sides}
    return Rung(difficulty=difficulty, pictures=pictures, questions=questions)


def _pages(pages: int, fields: int, pictures: int, questions: int) -> Rung:
    return Rung(difficulty={"pages": pages, "fields": fields}, pictures=pictures, questions=questions)


def _clip(frames: int, pictures: int, questions: int, **more) -> Rung:
    return Rung(difficulty={"frames": frames, **more}, pictures=pictures, questions=questions)


def _list(entries: int) -> Rung:
    return Rung(difficulty={"entries": entries}, pictures=16, questions=6)


Part = Literal["tower", "language", "both"]


@dataclass(frozen=True)
class Stage:
    """Tasks that are trained together, each with its ladder."""

    ladders: dict[str, tuple[Rung, ...]]
    goal: tuple[str, ...] = ()  # the stage ends when these tasks have climbed their ladders,
    steps: int | None = None  # or, if this is given, after so many steps
    fresh: bool = False  # it begins with an untrained language model, and the optimiser and the warm-up begin anew
    learns: Part = "both"  # the rest stays as it is
    cooling: bool = False  # the learning rate falls to zero over its steps


SEEING = Stage(
    {
        "scenes": (_scenes(1, 1, 64, 0), _scenes(2, 2, 48, 0), _scenes(4, 3, 32, 0)),
        "documents": (_pages(1, 1, 64, 0), _pages(1, 2, 48, 0), _pages(1, 4, 32, 0)),
    },
    goal=("scenes", "documents"),
)
_EVERYWHERE = {"scenes": (_scenes(12, 6, 24, 0),), "documents": (_pages(1, 8, 16, 0),), "video": (_clip(2, 16, 0),)}
PLACING = Stage(_EVERYWHERE, steps=1000, fresh=True, learns="tower")
POLISHING = Stage(_EVERYWHERE, steps=400, fresh=True, learns="tower", cooling=True)
FINDING = Stage(
    {
        "scenes": (_scenes(6, 3, 32, 6, relational=0.0),),
        "documents": (_pages(1, 4, 24, 4), _pages(1, 8, 20, 8)),
        "video": (_clip(2, 24, 6),),
    },
    steps=430,
    fresh=True,
    learns="language",
)
RELATING = Stage(
    {
        "scenes": (
            *(
                _scenes(20, 6, 20, 15, relational=0.75, sides=sides)
                for sides in (("left of",), ("left of", "right of"), ("above",), ("above", "below"))
            ),
            _scenes(12, 6, 20, 12, relational=0.6),
        ),
        "documents": (_pages(1, 8, 20, 8), _pages(2, 8, 16, 12), _pages(2, 8, 6, 12)),
        "video": (_clip(4, 24, 12, regulars=1, guests=3, timed=0.8), _clip(6, 10, 10), _clip(6, 5, 10)),
    },
    goal=("scenes", "documents", "video"),
    learns="language",
)
EVERYTHING = Stage(
    {
        "scenes": (_scenes(12, 6, 16, 12), _scenes(14, 6, 16, 12)),
        "documents": (_pages(2, 4, 16, 8), _pages(2, 8, 12, 10), _pages(2, 10, 12, 10)),
        "video": (_clip(4, 12, 9), _clip(6, 12, 10)),
        "needle": tuple(_list(entries) for entries in (4, 6, 8, 10)),
        "arithmetic": (Rung(difficulty={}, pictures=4, questions=4),),
    },
    learns="language",
)
STAGES = (SEEING, PLACING, POLISHING, FINDING, RELATING, EVERYTHING)


@dataclass
class Curriculum:
    """Where a run stands. A task climbs a rung when its running accuracy reaches `promote_at`; the next stage begins
    when the tasks that are this one's goal have reached it on their last rung, or when its steps are taken.

    >>> curriculum = Curriculum(promote_at=0.8)
    >>> curriculum.rung
    {'scenes': 0, 'documents': 0}
    """

    promote_at: float
    stage: int = 0
    rung: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SEEING.ladders, 0))
    running: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SEEING.ladders, 0.0))
    taken: int = 0  # steps of this stage

    @property
    def now(self) -> Stage:
        return STAGES[self.stage]

    @property
    def ladders(self) -> dict[str, tuple[Rung, ...]]:
        return self.now.ladders

    @property
    def warmth(self) -> float:
        """What the stage multiplies the learning rate by."""
        return 1 - self.taken / self.now.steps if self.now.cooling else 1.0

    def choose(self, rng: np.random.Generator) -> dict[str, int]:
        """A rung for every task: mostly the highest reached, at times a lower one, so that nothing is forgotten."""
        return {
            name: int(rng.integers(top)) if top and rng.random() < 0.25 else top for name, top in self.rung.items()
        }

    def learn(self, name: str, rung: int, accuracy: float) -> None:
        """Take note of a batch's accuracy. Only the highest rung counts."""
        if rung != self.rung[name]:
            return
        self.running[name] += 0.1 * (accuracy - self.running[name])
        if self.running[name] >= self.promote_at and rung + 1 < len(self.ladders[name]):
            self.rung[name] += 1
            self.running[name] -= 0.1

    def advance(self) -> Stage | None:
        """Count a step; begin the next stage, and return it, if this one is climbed or has had its time."""
        self.taken += 1
        stage = self.now
        climbed = all(
            self.rung[name] + 1 == len(self.ladders[name]) and self.running[name] >= self.promote_at
            for name in stage.goal
        )
        over = self.taken >= stage.steps if stage.steps else climbed
        if not over or self.stage + 1 == len(STAGES):
            return None
        self.stage, self.taken = self.stage + 1, 0
        self.rung, self.running = dict.fromkeys(self.ladders, 0), dict.fromkeys(self.ladders, 0.0)
        return self.now
