"""A task draws pictures and asks questions about them. This file holds what the three domains have in common.

A `Picture` knows every question that can be asked about it, which makes dense training cheap. A measurement
takes one `Sample` per picture, so that samples are independent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image

from corelib.core.entries import check_entries, check_whole
from corelib.core.errors import BadInput, check_known
from corelib.core.geometry import Box
from corelib.tasks.assets import check_split, generator
from corelib.tasks.draw import Draw
from corelib.tasks.sample import SECONDS, Sample

Setting = bool | float | str | tuple[str, ...]  # of a difficulty; an int is a float

# Words of a question that say how to look; all others say what for.
TEMPLATE = frozenset("digit on in of left right above below frame page ? ,".split())


@dataclass(frozen=True)
class Question:
    """One question about a picture, its answer, and where that can be read."""

    kind: str
    text: str
    answer: str
    evidence: tuple[Box, ...] = ()
    distractors: tuple[Box, ...] = ()
    anchors: tuple[Box, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    accepted: tuple[str, ...] = ()
    rule: str = ""


@dataclass(frozen=True)
class Picture:
    """Everything that is known about one picture, page set or clip."""

    images: tuple[Image.Image, ...]
    questions: tuple[Question, ...]
    caption: tuple[str, str] = ("", "")  # an instruction such as "list :", and the text that follows it
    video: bool = False
    context: str = ""
    first_page: int = 1  # the number of the first image, where images are named
    seconds: float = SECONDS  # between two frames of a clip


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A domain at one difficulty. The fields of a subclass *are* its difficulty."""

    name: ClassVar[str]
    finite: ClassVar[bool] = False  # there are only so many pictures: a seed shuffles them, and draws no others

    @property
    def rule(self) -> str:
        """By which an answer that a model wrote itself is right (`scoring.py`)."""
        return "exact"

    @property
    @abstractmethod
    def kinds(self) -> dict[str, float]:
        """Kind of question → the share of samples that ask it."""

    @abstractmethod
    def picture(self, rng: np.random.Generator, split: str) -> Picture:
        """One picture of a split and all its questions, drawn with `rng`.

        Raises: BadInput for a difficulty that cannot be drawn.
        """

    def draw_picture(self, split: str, seed: int, index: int) -> tuple[Picture, np.random.Generator]:
        """The picture of (domain, split, seed, index), and the random stream behind it."""
        rng = generator(self.name, split, seed, index)
        return self.picture(rng, split), rng

    def available(self, split: str, count: int) -> int:
        """How many pictures there are in a split, of `count` that are asked for: all, if they are drawn."""
        return count

    def names(self, split: str, seed: int, index: int) -> tuple[str, ...]:
        """What tells the pictures of a sample from others, where they are not drawn; else nothing."""
        return ()

    def sample(self, split: str, seed: int, index: int) -> Sample:
        """The sample of (domain, split, seed, index): the same on every machine, now and later."""
        return self.questions_for(split, seed, index, 1)[0]

    def questions_for(self, split: str, seed: int, index: int, count: int) -> list[Sample]:
        """`count` different questions about one picture; the first is `sample(split, seed, index)`.

        Raises: BadInput if so many cannot be asked about it.

        >>> from corelib.tasks import task
        >>> [sample.kind for sample in task("scenes").questions_for("test", 0, 0, 3)]
        ['attribute', 'relation', 'attribute']
        """
        picture, rng = self.draw_picture(split, seed, index)
        left = [question for question in picture.questions if self.kinds.get(question.kind, 0) > 0]
        if not 1 <= count <= len(left):
            raise BadInput(f"{self.name}: {count} questions about a picture of which {len(left)} can be asked")
        chosen = []
        for _ in range(count):
            shares = {kind: share for kind, share in self.kinds.items() if any(q.kind == kind for q in left)}
            total = sum(shares.values())
            kind = rng.choice(list(shares), p=[share / total for share in shares.values()])
            questions = [q for q in left if q.kind == kind]
            chosen.append(questions[rng.integers(len(questions))])
            left.remove(chosen[-1])
        return [
            Sample(
                domain=self.name,
                split=check_split(split),
                seed=seed,
                index=index,
                kind=asked.kind,
                question=asked.text,
                answer=asked.answer,
                images=picture.images,
                video=picture.video,
                context=picture.context,
                evidence=asked.evidence,
                distractors=asked.distractors,
                anchors=asked.anchors,
                spans=asked.spans,
                first_page=picture.first_page,
                accepted=asked.accepted,
                rule=asked.rule,
                seconds=picture.seconds,
            )
            for asked in chosen
        ]

    def samples(self, split: str, seed: int, count: int, start: int = 0) -> Iterator[Sample]:
        """The samples `start` … `start + count - 1`, one about each picture.

        Raises: BadInput if `count` is below 1.
        """
        for index in range(start, start + check_whole("samples", count, 1)):
            yield self.sample(split, seed, index)

    def draw(self, split: str = "test", *, samples: int, seed: int = 0, questions: int = 1) -> Draw:
        """So many samples of a split, `questions` about each picture: what experiments take.

        >>> from corelib.tasks import task
        >>> [sample.kind for sample in task("scenes").draw("test", samples=3, questions=3)]
        ['attribute', 'relation', 'attribute']
        """
        return Draw(self, split, seed, samples, questions)

    def with_difficulty(self, **difficulty: Setting) -> Self:
        """The same task with other difficulty: `Scenes().with_difficulty(objects=16)`.

        Raises: UnknownName for a key that is not a difficulty of this task, BadInput for a value of another kind.
        Whether a value is allowed shows when a picture is drawn.
        """
        known = [f.name for f in fields(self)]
        for key in difficulty:
            check_known(f"difficulty of {self.name}", key, known)
        found = replace(self, **{key: tuple(one) if isinstance(one, list) else one for key, one in difficulty.items()})
        check_entries(self.name, found)
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """What a results file says about the task: its domain, and its difficulty where that is not the default.

        >>> from corelib.tasks import task
        >>> task("scenes").facts, task("video", timed=0.0).facts
        ({'domain': 'scenes'}, {'domain': 'video', 'difficulty': {'timed': 0.0}})
        """
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {"domain": self.name, **({"difficulty": changed} if changed else {})}

    def first_of(self, rng: np.random.Generator, pages: int, excerpt_of: int) -> int:
        """The number of the first of so many `pages`: 1, or of an excerpt from `excerpt_of` pages, drawn with `rng`.

        Raises: BadInput if the excerpt is longer than the whole.
        """
        if not excerpt_of:
            return 1
        self._require(excerpt_of >= pages, f"excerpt_of must be {pages} or more for {pages} pages, got {excerpt_of}")
        return int(rng.integers(1, excerpt_of - pages + 2))

    def _require(self, ok: bool, message: str) -> None:
        if not ok:
            raise BadInput(f"{self.name}: {message}")
