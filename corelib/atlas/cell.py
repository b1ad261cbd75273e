"""A cell of the head atlas: one model in one domain, with the scores of all its heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field

from corelib.analysis.division import Division
from corelib.core.errors import check_known
from corelib.core.head_scores import HeadScores, Interval
from corelib.core.results import Result
from corelib.core.values import (
    Estimate,
    MetricFacts,
    ModelFacts,
    Proportion,
    Reliability,
    Software,
    Table,
    TaskFacts,
)
from corelib.experiments.depth import DepthCurve
from corelib.metrics.catalogue import PRIMARY, Metric


@dataclass(frozen=True)
class Part:
    """The scores of one metric; tables to four digits."""

    values: Annotated[Table, Field(alias="scores")]
    low: Table
    high: Table
    chance: float | None
    reliability: Reliability | None


@dataclass(frozen=True)
class KindPart(Part):
    """RAM on one kind of question alone."""

    samples: int
    accuracy: float


@dataclass(frozen=True)
class Summary:
    """How RAM is spread over all heads."""

    gini: Estimate
    participation_ratio: Estimate
    top_share: Estimate
    mean_depth: Estimate
    half_share: Estimate | None = None  # None in results of the first round


@dataclass(frozen=True, repr=False)
class Cell(Result):
    """One model in one domain: the scores of all heads."""

    schema: ClassVar[str] = "corelib/head-atlas/1"

    model: ModelFacts
    task: TaskFacts
    level: float  # of all intervals
    metrics: dict[str, Part]  # by metric, "answer/mean/raw"
    kinds: dict[str, KindPart]  # by kind of question
    summaries: dict[str, Summary]  # "all", and each kind
    depth: dict[str, DepthCurve]  # by kind of question: the heads from layer 0, 1, …, L on do not see the evidence
    software: Software
    seconds: float
    division: Division | None = None  # the top 5 % by RAM against their layers: entropy outside the evidence
    validity: dict[str, Proportion] | None = None  # accuracies that say whether the evidence is read where it lies

    def scores(self, metric: Metric | str = PRIMARY) -> HeadScores:
        """The head scores of one metric."""
        key = metric if isinstance(metric, str) else metric.key
        check_known("metric of this cell", key, tuple(self.metrics))
        return self._scores(self.task, key, self.metrics[key])

    def of_kind(self, kind: str) -> HeadScores:
        """RAM on one kind of question alone."""
        check_known("kind of question", kind, tuple(self.kinds))
        part = self.kinds[kind]
        return self._scores(replace(self.task, samples=part.samples, accuracy=part.accuracy), PRIMARY.key, part)

    def _scores(self, task: TaskFacts, key: str, part: Part) -> HeadScores:
        rows, reduce, quantity = key.split("/")
        return HeadScores(
            model=self.model,
            task=task,
            metric=MetricFacts(quantity, rows, reduce),
            values=part.values,
            interval=Interval(self.level, part.low, part.high),
            chance=part.chance,
            reliability=part.reliability,
            software=self.software,
            seconds=self.seconds,
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        found = super().load(path)
        found.scores()  # its shapes and numbers are checked there
        return found
