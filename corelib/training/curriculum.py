"""A curriculum: stages one after another, in each of them a ladder of difficulties for every task.

A task climbs a rung when it is answered well enough; the next stage begins when the tasks that matter have climbed
their ladders, or when its time is over. Which stages there are is in `stages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from corelib.core.errors import BadInput
from corelib.tasks import Setting


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One difficulty, how many pictures of it make a batch, and how many questions are asked about each."""

    difficulty: Mapping[str, Setting]  # of its task; what is left out stays at the default
    pictures: int
    questions: int  # 0: the model only lists what it sees; a tower that learns alone is asked nothing


MASTERED = 0.97  # running accuracy
Part = Literal["tower", "language", "both", "adapters"]  # adapters: of the bridge, without its connector


@dataclass(frozen=True)
class Stage:
    """Tasks that are trained together, each with its ladder.

    Raises: BadInput if the rate is to fall over no given number of steps.
    """

    ladders: Mapping[str, tuple[Rung, ...]]
    goal: tuple[str, ...] = ()  # the stage ends when these tasks have climbed their ladders,
    steps: int | None = None  # or, if this is given, after so many steps
    fresh: bool = False  # it begins with an untrained language model, and the optimiser and the warm-up begin anew
    learns: Part = "both"  # the rest stays as it is
    cooling: bool = False  # the learning rate falls to zero over its steps
    pace: float = 1.0  # times the recipe's learning rate
    quiet: float = 0.0  # of a tower: the weight of its tokens' length in the loss
    enough: float | None = None  # the running accuracy at which a task climbs; None: the recipe's
    lists: bool = True  # after the questions, the model lists what it sees
    rests: bool = False  # a task that is mastered, or that is not the stage's goal, is left out of most steps
    keeps: int = 0  # passages of its own in every step, on which the language model must stay what it was
    alone: bool = False  # each row of pictures is a batch of its own, read without a mask of all its tokens (long ones)
    reach: int = 0  # positions, over which the pictures of a row lie scattered, in order; 0: they are neighbours
    wording: bool = False  # a fresh stage: what the bridge's tower states is first put into words (`connector_init.py`)

    def __post_init__(self) -> None:
        if self.cooling and not self.steps:
            raise BadInput("a stage whose learning rate falls to zero needs the number of its steps")


@dataclass
class Curriculum:
    """Where a run stands in its `stages`. A task climbs a rung when its running accuracy reaches `enough`; the next
    stage begins when the tasks that are this one's goal have reached it on their last rung, or when its steps are
    taken.

    >>> easy, hard = (Rung(difficulty={"entries": n}, pictures=8, questions=4) for n in (2, 8))
    >>> curriculum = Curriculum(promote_at=0.8, stages=(Stage({"needle": (easy, hard)}),))
    >>> curriculum.rung
    {'needle': 0}
    """

    promote_at: float
    stages: tuple[Stage, ...]
    stage: int = 0
    rung: dict[str, int] = field(default_factory=dict)  # of every task; empty: the first
    running: dict[str, float] = field(default_factory=dict)  # accuracy of every task; empty: zero
    taken: int = 0  # steps of this stage

    def __post_init__(self) -> None:
        if not 0 <= self.stage < len(self.stages):
            raise BadInput(f"stage {self.stage} of a curriculum that has {len(self.stages)}, from 0")
        self.rung = self.rung or dict.fromkeys(self.ladders, 0)
        self.running = self.running or dict.fromkeys(self.ladders, 0.0)
        for name, rungs in self.ladders.items():
            if self.rung.get(name, -1) not in range(len(rungs)) or name not in self.running:
                raise BadInput(f"stage {self.stage} has no rung {self.rung.get(name)} of {name}")

    @property
    def now(self) -> Stage:
        """The stage that the run is in."""
        return self.stages[self.stage]

    @property
    def enough(self) -> float:
        """The running accuracy at which a task climbs a rung of this stage."""
        return self.promote_at if self.now.enough is None else self.now.enough

    @property
    def ladders(self) -> Mapping[str, tuple[Rung, ...]]:
        """The rungs of every task of this stage, the easiest first."""
        return self.now.ladders

    @property
    def lr_factor(self) -> float:
        """What the stage multiplies the learning rate by."""
        left = 1 - self.taken / self.now.steps if self.now.cooling and self.now.steps else 1.0
        return self.now.pace * left

    def choose(self, rng: np.random.Generator) -> dict[str, int]:
        """A rung for every task: mostly the highest reached, at times a lower one, so that nothing is forgotten. A task
        that rests comes up in every fourth step."""
        chosen = {
            name: int(rng.integers(top)) if top and rng.random() < 0.25 else top for name, top in self.rung.items()
        }
        resting = [name for name in chosen if self.rests(name) and rng.random() >= 0.25]
        kept = {name: rung for name, rung in chosen.items() if name not in resting}
        return kept or chosen

    def rests(self, name: str) -> bool:
        """Is a task on its last rung and answered nearly always, or here only so that it is not forgotten?"""
        mastered = self.rung[name] + 1 == len(self.ladders[name]) and self.running[name] >= MASTERED
        return self.now.rests and (mastered or (bool(self.now.goal) and name not in self.now.goal))

    def learn(self, name: str, rung: int, accuracy: float) -> None:
        """Take note of a batch's accuracy. Only the highest rung counts."""
        if rung != self.rung[name]:
            return
        self.running[name] += 0.1 * (accuracy - self.running[name])
        if self.running[name] >= self.enough and rung + 1 < len(self.ladders[name]):
            self.rung[name] += 1
            self.running[name] -= 0.1

    def advance(self) -> Stage | None:
        """Count a step; begin the next stage, and return it, if this one is climbed or has had its time."""
        self.taken += 1
        stage = self.now
        climbed = all(
            self.rung[name] + 1 == len(self.ladders[name]) and self.running[name] >= self.enough for name in stage.goal
        )
        over = self.taken >= stage.steps if stage.steps else climbed
        if not over or self.stage + 1 == len(self.stages):
            return None
        self.stage, self.taken = self.stage + 1, 0
        self.rung, self.running = dict.fromkeys(self.ladders, 0), dict.fromkeys(self.ladders, 0.0)
        return self.now
