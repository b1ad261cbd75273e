"""The head atlas: scores of all heads of every embedded model in every domain, committed with the package.

    atlas/cells/mini-s/scenes.json
    cell("mini-s", "scenes").scores()                     # HeadScores, RAM
    cell("mini-s", "scenes").scores("answer/mean/lift")   # another metric, from the same samples

`corelib atlas build` makes it anew (`experiments/atlas.py`); schema `corelib/head-atlas/1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from corelib.core.errors import check_known
from corelib.core.heads import HeadScores
from corelib.metrics.catalogue import PRIMARY, Metric
from corelib.core.results import Result

HOME = Path(__file__).parent
CELLS = HOME / "cells"


@dataclass(frozen=True)
class Cell(Result):
    """One model in one domain."""

    schema: ClassVar[str] = "corelib/head-atlas/1"

    model: dict  # as in head scores
    task: dict  # as in head scores
    level: float  # of all intervals
    metrics: dict[str, dict]  # "answer/mean/raw" → scores, low, high ([layer][head]); chance; reliability
    kinds: dict[str, dict]  # kind of question → samples, accuracy; scores, low, high of RAM
    summaries: dict[str, dict]  # "all", and each kind → gini, … of RAM (`SUMMARIES`) → value, low, high
    depth: dict[str, dict]  # kind of question → accuracy, low, high when the heads from layer 0, 1, …, L on are blind
    software: dict
    seconds: float

    def scores(self, metric: Metric | str = PRIMARY) -> HeadScores:
        """The head scores of one metric."""
        key = metric if isinstance(metric, str) else metric.key
        check_known("metric of this cell", key, tuple(self.metrics))
        return self._scores(self.task, key, self.metrics[key])

    def of_kind(self, kind: str) -> HeadScores:
        """RAM on one kind of question alone."""
        check_known("kind of question", kind, tuple(self.kinds))
        part = self.kinds[kind]
        task = {**self.task, "samples": part["samples"], "accuracy": part["accuracy"]}
        return self._scores(task, PRIMARY.key, part)

    def _scores(self, task: dict, key: str, part: dict) -> HeadScores:
        rows, reduce, quantity = key.split("/")
        return HeadScores(
            model=self.model,
            task=task,
            metric={"quantity": quantity, "rows": rows, "reduce": reduce},
            scores=part["scores"],
            interval={"level": self.level, "low": part["low"], "high": part["high"]},
            chance=part.get("chance"),
            reliability=part.get("reliability"),
            software=self.software,
            seconds=self.seconds,
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        found = super().load(path)
        found.scores()  # its shapes and numbers are checked there
        return found


def models() -> tuple[str, ...]:
    """The models that the atlas has."""
    return tuple(sorted(path.name for path in CELLS.glob("*") if path.is_dir()))


def domains(model: str) -> tuple[str, ...]:
    """The domains in which it has a model."""
    check_known("model of the atlas", model, models())
    return tuple(sorted(path.stem for path in (CELLS / model).glob("*.json")))


def cell(model: str, domain: str) -> Cell:
    """What the atlas knows of a model in a domain."""
    check_known(f"domain of {model} in the atlas", domain, domains(model))
    return Cell.load(CELLS / model / f"{domain}.json")
