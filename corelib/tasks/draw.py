"""Which samples an experiment runs on: so many of one split of a task, drawn with one seed.

draw = task("scenes").draw("test", samples=64, seed=0, questions=4)
vlm.encode(draw)                     # it is a sequence of samples
draw.clusters                        # which picture each sample is about: what intervals resample
draw.facts(accuracy=0.9)             # what a result says of its samples
draw.fingerprint                     # what a store of results is refused by, if it differs
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, overload

from corelib.core.entries import check_whole
from corelib.core.errors import BadInput
from corelib.core.values import TaskFacts
from corelib.tasks.assets import SPLITS, check_split
from corelib.tasks.sample import Sample

if TYPE_CHECKING:
    from corelib.tasks.base import Task

MOST_SAMPLES = 10_000_000  # no run answers more
TOGETHER = 3  # pictures that may always be one batch, so that none is alone, without another one to exchange with


@dataclass(frozen=True)
class Draw(Sequence[Sample]):
    """So many samples of a task, the same on every machine. Several `questions` about each picture share its number:
    samples 0 … questions − 1 are about picture 0.

    Raises: BadInput if the numbers are not whole and positive, if `samples` is no multiple of `questions`, or if the
    split of the task does not have as many pictures.

    >>> from corelib.tasks import task
    >>> draw = task("scenes").draw("test", samples=6, questions=2)
    >>> len(draw), draw.pictures, draw.clusters, draw[4].index
    (6, 3, (0, 0, 1, 1, 2, 2), 2)
    """

    task: Task
    split: str = "test"
    seed: int = 0
    samples: int = 256
    questions: int = 1  # about each picture
    written: tuple[
        tuple[str, tuple[int, int] | None], ...
    ] = ()  # instead of the right answers: what a model wrote, and
    # which characters of that say what was asked (`experiments/written.py`)

    def __post_init__(self) -> None:
        check_split(self.split)
        for name, least, most in (("samples", 1, MOST_SAMPLES), ("questions", 1, MOST_SAMPLES), ("seed", 0, None)):
            object.__setattr__(self, name, check_whole(name, getattr(self, name), least, most))
        if self.samples % self.questions:
            raise BadInput(
                f"{self.samples} samples with {self.questions} questions about each picture: give a multiple of "
                f"{self.questions}"
            )
        if self.written and len(self.written) != self.samples:
            raise BadInput(f"{len(self.written)} written answers for {self.samples} samples: give one a sample")
        there = self.task.available(self.split, self.pictures)
        if there < self.pictures:
            about = f" with {self.questions} questions about each picture" if self.questions > 1 else ""
            some = [split for split in SPLITS if self.task.available(split, 1)]
            raise BadInput(
                f"{self.task.name} has {there} pictures in {self.split}, and {self.samples} samples{about} need "
                f"{self.pictures}: ask for fewer samples (there are pictures in {', '.join(some) or 'no split'})"
            )

    @property
    def pictures(self) -> int:
        """How many pictures (page sets, clips) the samples are about."""
        return self.samples // self.questions

    @property
    def clusters(self) -> tuple[int, ...]:
        """The picture of every sample: questions about one picture stand or fall together."""
        return tuple(index // self.questions for index in range(self.samples))

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the samples depend on; how many they are is left out, so that a longer run may go on with a store."""
        said = {"written": sha256(repr(self.written).encode()).hexdigest()} if self.written else {}
        return {"task": repr(self.task), "split": self.split, "seed": self.seed, "questions": self.questions, **said}

    def facts(self, **more: Any) -> TaskFacts:
        """What a result says of its samples; `more` are other fields of `TaskFacts`."""
        questions: dict[str, Any] = {} if self.questions == 1 else {"questions": self.questions}
        questions |= {"answers": "written"} if self.written else {}
        names = {name for one in range(self.pictures) for name in self.task.names(self.split, self.seed, one)}
        questions |= {"pictures": tuple(sorted(names))} if names else {}
        return TaskFacts(
            **self.task.facts, split=self.split, seed=self.seed, samples=self.samples, **{**questions, **more}
        )

    def __len__(self) -> int:
        return self.samples

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        chosen = range(self.samples)[index]
        return self.take([chosen])[0] if isinstance(chosen, int) else self.take(chosen)

    def __iter__(self) -> Iterator[Sample]:
        for picture in range(self.pictures):
            yield from self.take(range(picture * self.questions, (picture + 1) * self.questions))

    def take(self, indices: Iterable[int]) -> list[Sample]:
        """The samples of these numbers; a picture is drawn once."""
        indices = list(indices)
        pictures = dict.fromkeys(index // self.questions for index in indices)
        about = {one: self.task.questions_for(self.split, self.seed, one, self.questions) for one in pictures}
        found = [about[index // self.questions][index % self.questions] for index in indices]
        if not self.written:
            return found
        said = (self.written[index] for index in indices)
        return [replace(one, answer=text, told=told) for one, (text, told) in zip(found, said, strict=True)]

    def batches(self, size: int, indices: Iterable[int] | None = None, together: int = 1) -> list[list[int]]:
        """Sample numbers (all, or these) in batches of whole pictures, about `size` samples each.

        Pictures are spread evenly over the batches; `together` pictures may always be one batch, whatever its size.

        Raises: BadInput if `size` is below 1.

        >>> from corelib.tasks import task
        >>> task("needle").draw("test", samples=8, questions=2).batches(4)
        [[0, 1, 2, 3], [4, 5, 6, 7]]
        """
        check_whole("batch_size", size, 1)
        pictures: dict[int, list[int]] = {}
        for index in range(self.samples) if indices is None else indices:
            pictures.setdefault(index // self.questions, []).append(index)
        if not pictures:
            return []
        most = max(together, size // self.questions)
        count = -(-len(pictures) // most)
        groups = list(pictures.values())
        short, longer = divmod(len(groups), count)
        found, at = [], 0
        for number in range(count):
            stop = at + short + (number < longer)
            found.append([index for group in groups[at:stop] for index in group])
            at = stop
        return found
