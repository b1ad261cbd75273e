"""What a mini model is shown, and when: first to see, then to find, then to relate, then everything.

*Seeing*: pictures of few things, and no question, only "list what is there". A question names what it asks for, so a
caption after it can be copied from the question: the model would never learn to read.
*Finding*: one attribute alone leaves two or three candidates, because easier pictures reward shortcuts. The vision
tower stays, the language model begins anew: one that has learned to list gets stuck at one attribute.
*Relating*: from a thing or a label that was found to what stands beside it.
*Everything*: all tasks together, each on a ladder that ends beyond its default difficulty. The text tasks come only
now: a model that first learns to copy from text does not look.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One difficulty, how many pictures of it make a batch, and how many questions are asked about each."""

    difficulty: dict
    pictures: int
    questions: int  # 0: the model only lists what it sees


def _scenes(objects: int, side: int, pictures: int, questions: int, relational: float = 0.3) -> Rung:
    difficulty = {"objects": objects, "rows": side, "columns": side, "relational": relational}
    return Rung(difficulty=difficulty, pictures=pictures, questions=questions)


def _pages(pages: int, fields: int, pictures: int, questions: int) -> Rung:
    return Rung(difficulty={"pages": pages, "fields": fields}, pictures=pictures, questions=questions)


def _clip(frames: int, pictures: int, questions: int) -> Rung:
    return Rung(difficulty={"frames": frames}, pictures=pictures, questions=questions)


def _list(entries: int) -> Rung:
    return Rung(difficulty={"entries": entries}, pictures=16, questions=6)


@dataclass(frozen=True)
class Stage:
    """Tasks that are trained together, each with its ladder."""

    ladders: dict[str, tuple[Rung, ...]]
    goal: tuple[str, ...] = ()  # the stage ends when these tasks have climbed their ladders
    new_language: bool = False  # it begins with untrained language layers


SEEING = Stage(
    {
        "scenes": (_scenes(1, 1, 64, 0), _scenes(2, 2, 48, 0), _scenes(4, 3, 32, 0)),
        "documents": (_pages(1, 1, 64, 0), _pages(1, 2, 48, 0), _pages(1, 4, 32, 0)),
    },
    goal=("scenes", "documents"),
)
FINDING = Stage(
    {
        "scenes": (_scenes(6, 3, 32, 6, relational=0.0),),
        "documents": (_pages(1, 2, 32, 2), _pages(1, 4, 32, 3)),
        "video": (_clip(2, 24, 6),),
    },
    goal=("scenes", "video"),
    new_language=True,
)
RELATING = Stage(
    {
        "scenes": (_scenes(6, 3, 32, 6), _scenes(8, 4, 24, 8)),
        "documents": (_pages(1, 4, 48, 4), _pages(1, 8, 24, 8)),
        "video": (_clip(2, 16, 6), _clip(3, 16, 7), _clip(4, 16, 7)),
    },
    goal=("documents",),
)
EVERYTHING = Stage(
    {
        "scenes": (
            _scenes(8, 4, 24, 8), _scenes(10, 5, 24, 8), _scenes(12, 6, 24, 8), _scenes(14, 6, 24, 10),
        ),
        "documents": (
            _pages(1, 8, 24, 8), _pages(2, 4, 24, 8), _pages(2, 8, 16, 8), _pages(2, 10, 16, 8),
        ),
        "video": (_clip(3, 16, 7), _clip(4, 16, 7), _clip(6, 16, 8)),
        "needle": (_list(4), _list(6), _list(8), _list(10)),
        "arithmetic": (Rung(difficulty={}, pictures=4, questions=4),),
    }
)  # fmt: skip
STAGES = (SEEING, FINDING, RELATING, EVERYTHING)


@dataclass
class Curriculum:
    """Where a run stands. A task climbs a rung when its running accuracy reaches `promote_at`; the next stage begins
    when the tasks that are this one's goal have reached it on their last rung.

    >>> curriculum = Curriculum(promote_at=0.8)
    >>> curriculum.rung
    {'scenes': 0, 'documents': 0}
    """

    promote_at: float
    stage: int = 0
    rung: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SEEING.ladders, 0))
    running: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SEEING.ladders, 0.0))

    @property
    def ladders(self) -> dict[str, tuple[Rung, ...]]:
        return STAGES[self.stage].ladders

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
        """Begin the next stage, and return it, if this one is climbed."""
        climbed = all(
            self.rung[name] + 1 == len(self.ladders[name]) and self.running[name] >= self.promote_at
            for name in STAGES[self.stage].goal
        )
        if not climbed or self.stage + 1 == len(STAGES):
            return None
        self.stage += 1
        self.rung, self.running = dict.fromkeys(self.ladders, 0), dict.fromkeys(self.ladders, 0.0)
        return STAGES[self.stage]
