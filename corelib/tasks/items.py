"""Questions that were written down: one record a question, with the pictures it is about and where its answer is.

Records come from a folder of your own (`folder.py`) or from the hub (`hub.py`). A record does not know a split, so
pictures are dealt out by the checksum of their name: about half to `select`, the others to `test` (our definition).
Where a picture goes does not depend on what else there is. Records that share a picture stay together, so that heads
are never tested on a picture that ranked them. The seed shuffles a split.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from PIL import Image
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from corelib.core.errors import BadInput
from corelib.core.geometry import Box
from corelib.tasks.assets import check_split
from corelib.tasks.base import Picture, Question, Task
from corelib.tasks.sample import SECONDS

DEALT = ("select", "test")


@dataclass(frozen=True)
class Item:
    """One question. `pictures` names what it is about, the same picture always by the same name: records of the same
    pictures belong together. A text without a picture has a name, too."""

    pictures: tuple[str, ...]
    question: str
    answer: str
    boxes: tuple[Box, ...]
    distractors: tuple[Box, ...] = ()
    kind: str = "question"
    accepted: tuple[str, ...] = ()  # other right answers
    rule: str = ""  # by which a written answer is right; empty: that of the task
    video: bool = False  # the pictures are the frames of one clip,
    seconds: float = SECONDS  # so far apart
    context: str = ""  # a text before the question
    spans: tuple[tuple[int, int], ...] = ()  # where the answer stands in it
    read: Callable[[], Sequence[Image.Image]] = field(kw_only=True)  # gives the pictures themselves, in RGB


@dataclass(frozen=True, kw_only=True)
class ItemTask(Task):
    """A task whose questions are records."""

    finite: ClassVar[bool] = True

    @abstractmethod
    def load(self) -> Iterable[Item]:
        """All records; called once."""

    @cached_property
    def records(self) -> tuple[Item, ...]:
        """All records, read and checked.

        Raises: BadInput if there is none, and what `load` raises.
        """
        found = tuple(self.load())
        if not found:
            raise BadInput(f"{self.name}: there is no record")
        return found

    @cached_property
    def kinds(self) -> dict[str, float]:
        names = [record.kind for record in self.records]
        return {name: names.count(name) / len(names) for name in dict.fromkeys(names)}

    @cached_property
    def dealt(self) -> dict[str, list[tuple[Item, ...]]]:
        """By split, the records of each picture."""
        mine: dict[tuple[str, ...], dict[object, list[Item]]] = {}  # by pictures, and by the way they are shown
        for record in self.records:
            shown = (record.video, record.seconds, record.context)
            mine.setdefault(record.pictures, {}).setdefault(shown, []).append(record)
        found: dict[str, list[tuple[Item, ...]]] = {split: [] for split in DEALT}
        for groups in sorted(_together(list(mine)), key=_checksum):
            found[split_of(groups)] += [tuple(one) for pictures in groups for one in mine[pictures].values()]
        return found

    def names(self, split: str, seed: int, index: int) -> tuple[str, ...]:
        return self._group(split, seed, index)[0].pictures

    def _group(self, split: str, seed: int, index: int) -> tuple[Item, ...]:
        """The records of one picture."""
        groups = self.dealt.get(check_split(split), [])
        if not 0 <= index < len(groups):
            counts = ", ".join(f"{len(mine)} in {name}" for name, mine in self.dealt.items())
            raise BadInput(
                f"{self.name} has no picture {index} in {split}: there are {counts}; ask for fewer samples (with one "
                "question about each picture), or for several questions"
            )
        order = np.random.default_rng([seed, len(groups)]).permutation(len(groups))
        return groups[int(order[index])]

    def draw_picture(self, split: str, seed: int, index: int) -> tuple[Picture, np.random.Generator]:
        group = self._group(split, seed, index)
        questions = tuple(
            Question(
                one.kind, one.question, one.answer, one.boxes, one.distractors,
                spans=one.spans, accepted=one.accepted, rule=one.rule,
            )
            for one in group
        )  # fmt: skip
        first = group[0]
        picture = Picture(
            tuple(first.read()), questions, video=first.video, context=first.context, seconds=first.seconds
        )
        return picture, np.random.default_rng([seed, index])

    def available(self, split: str, count: int) -> int:
        return min(count, len(self.dealt.get(check_split(split), [])))

    def picture(self, rng: np.random.Generator, split: str) -> Picture:
        raise BadInput(f"{self.name} has no pictures but those of its records")


def split_of(groups: list[tuple[str, ...]]) -> str:
    """The split of pictures that belong together, given by their names in each record: by the checksum of the least
    name.

    >>> split_of([("b", "a")]) == split_of([("a",)]), split_of([("a",)]), split_of([("b",)])
    (True, 'select', 'select')
    """
    return DEALT[_checksum(groups)[0] % len(DEALT)]


def _checksum(groups: list[tuple[str, ...]]) -> bytes:
    return hashlib.sha256(min(name for group in groups for name in group).encode()).digest()


def _together(groups: list[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Groups of pictures, those together that share one.

    >>> _together([("a", "b"), ("c",), ("b",)])
    [[('a', 'b'), ('b',)], [('c',)]]
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for group in groups for name in group))}
    holds = np.zeros((len(groups), len(numbers)), dtype=bool)
    for row, group in enumerate(groups):
        holds[row, [numbers[name] for name in group]] = True
    _, label = connected_components(csr_array(holds) @ csr_array(holds).T, directed=False)
    parts: dict[int, list[tuple[str, ...]]] = {}
    for group, number in zip(groups, label.tolist(), strict=True):
        parts.setdefault(number, []).append(group)
    return [sorted(part) for part in parts.values()]
