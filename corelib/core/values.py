"""The small values that results are made of: an estimate with its interval, and what a result says of its model, its
task and its metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field

Table = tuple[tuple[float, ...], ...]  # [layer][head]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    >>> loss = Estimate(0.44, 0.391, 0.487)
    >>> str(loss), loss.percent()
    ('0.44 [0.39, 0.49]', '44 % [39, 49]')
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def __float__(self) -> float:
        return self.value

    def percent(self, whole: float = 1.0) -> str:
        """In per cent of `whole`, rounded."""
        value, low, high = (round(100 * end / whole) for end in (self.value, self.low, self.high))
        return f"{value} % [{low}, {high}]"


@dataclass(frozen=True)
class Accuracy:
    """The share of right answers, with its interval."""

    accuracy: float
    low: float
    high: float

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.accuracy, self.low, self.high)

    @classmethod
    def of(cls, share: Estimate, **more: Any) -> Self:
        """A share of right answers as an accuracy; `more` are the other fields of a subclass."""
        return cls(share.value, share.low, share.high, **more)

    def __str__(self) -> str:
        return str(self.estimate)


@dataclass(frozen=True)
class AccuracyKept(Accuracy):
    """An accuracy, and what is lost against another one, paired by samples."""

    loss: Estimate


@dataclass(frozen=True)
class Proportion(Accuracy):
    """An accuracy that knows of how many samples it is."""

    samples: int


@dataclass(frozen=True)
class Tables:
    """An estimate of every head, [layer][head]."""

    value: Table
    low: Table
    high: Table


@dataclass(frozen=True)
class Curve:
    """Estimates at several places, such as doses or layers."""

    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __getitem__(self, place: int) -> Estimate:
        return Estimate(self.value[place], self.low[place], self.high[place])


@dataclass(frozen=True)
class Reliability:
    """How well a ranking repeats itself on other samples."""

    halves: float  # rank correlation of two halves of the samples, the mean over splits
    whole: float  # what that says of all samples (Spearman–Brown): 2 r / (1 + r)
    jaccard: float  # of the two halves' top sets


@dataclass(frozen=True)
class ModelFacts:
    """Which model a result is of. `sha256` is of the weights, or the commit of a checkpoint of the hub."""

    name: str
    sha256: str
    num_layers: Annotated[int, Field(alias="layers")]
    num_heads: Annotated[int, Field(alias="heads")]
    num_kv_heads: Annotated[int, Field(alias="kv_heads")]
    dtype: str | None = None  # of the weights; None: float32
    reach: tuple[int, ...] | None = None  # the layers that see all evidence, if others see a window; None: all layers

    @property
    def shown(self) -> str:
        return self.name


@dataclass(frozen=True)
class BenchFacts:
    """Which model a timing is of. Of random weights there is a size alone, and where it is published."""

    name: str
    weights: str  # trained, or random
    num_layers: Annotated[int, Field(alias="layers")]
    measured_layers: Annotated[int, Field(alias="measured layers")]
    num_heads: Annotated[int, Field(alias="heads")]
    num_kv_heads: Annotated[int, Field(alias="kv_heads")]
    dtype: str | None = None
    seed: int | None = None
    source: str | None = None
    sha256: str | None = None  # of trained weights

    @property
    def shown(self) -> str:
        return f"{self.name}, {self.weights} weights"


@dataclass(frozen=True)
class TaskFacts:
    """Which samples a result is of. What a task does not have is None."""

    domain: str
    split: str
    seed: int
    samples: int
    questions: int | None = None  # about each picture; None: one
    counted: int | None = None  # samples that count, if not all do
    accuracy: float | None = None  # of the model on these samples
    answers: str | None = None  # "written": by the model itself; None: the right ones
    difficulty: dict[str, Any] | None = None  # where it is not the default
    sha256: str | None = None  # of a folder's list of questions and its pictures
    source: str | None = None  # of a public data set
    most: int | None = None  # rows of it that are read
    revision: str | None = None
    pictures: tuple[str, ...] | None = None  # by name, of a task that has only so many: heads are tested on others

    @property
    def shown(self) -> str:
        """In one line: `scenes/test, n = 512`."""
        return f"{self.domain}/{self.split}, n = {self.samples}"


@dataclass(frozen=True)
class MetricFacts:
    """Which score of heads: a quantity, reduced over query rows."""

    quantity: str
    rows: str
    reduce: str

    @property
    def key(self) -> str:
        """As it stands in files: `answer/mean/raw`."""
        return f"{self.rows}/{self.reduce}/{self.quantity}"


@dataclass(frozen=True)
class RankingFacts:
    """Where a ranking of heads comes from, and which share of them was taken."""

    task: TaskFacts
    metric: MetricFacts
    fraction: float | None = None


@dataclass(frozen=True)
class WindowFacts:
    """What heads see that are not dense."""

    width: int  # keys up to a row's own
    sinks: int  # keys at the beginning
    tokens: int | None = None  # the mean length of a sequence


Software = dict[str, str | None]  # versions by package
Machine = dict[str, str | int | None]  # what durations depend on
