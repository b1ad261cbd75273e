"""What an ablation of the heads on top of a ranking found: typed, written as JSON, shown as a card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from corelib.core.heads import Heads
from corelib.core.html import card, rows
from corelib.core.results import Result
from corelib.core.values import Accuracy, Estimate, ModelFacts, RankingFacts, Software, TaskFacts
from corelib.experiments.ablation_curve import DoseResponse, Sufficiency
from corelib.experiments.evidence import ChanceLevels

CONTROLS = ("kv_matched", "layer_matched", "norm_matched", "random")  # that which knows most, first


@dataclass(frozen=True)
class Base(Accuracy):
    """The plain model."""

    logprob: float


@dataclass(frozen=True)
class Loss:
    """What is lost against the plain model, sample by sample."""

    accuracy: Estimate
    logprob: Estimate  # nats


@dataclass(frozen=True)
class Condition:
    """The model without some heads."""

    heads: Heads
    accuracy: float
    low: float
    high: float
    logprob: float
    loss: Loss


@dataclass(frozen=True)
class Conditions:
    """The heads on top of the ranking, those that just missed the cut, and those at its end."""

    core: Condition
    next: Condition
    lowest: Condition

    def items(self) -> Iterator[tuple[str, Condition]]:
        """Each with its name."""
        return ((entry.name, getattr(self, entry.name)) for entry in fields(self))


@dataclass(frozen=True)
class Null:
    """Other sets of heads, and the model without each of them."""

    sets: tuple[Heads, ...]
    accuracy: tuple[float, ...]
    logprob: tuple[float, ...]
    loss: Estimate | None = None  # of accuracy, the mean over the sets; None in results of the first round
    complete: bool | None = None  # are these all sets that there are? None in results of the first round


@dataclass(frozen=True)
class Percentile:
    """How often a set of a null loses at least as much as the tested one."""

    accuracy: float
    logprob: float


@dataclass(frozen=True, repr=False)
class Ablation(Result):
    """What is lost without the heads on top of a ranking, and without others."""

    schema: ClassVar[str] = "corelib/ablation/1"

    model: ModelFacts
    task: TaskFacts
    ranking: RankingFacts
    mode: str
    level: float  # of all intervals
    base: Base
    chance: float  # accuracy of the best constant answer; in the first round, with another sample's picture
    conditions: Conditions
    null: dict[str, Null]  # layer_matched, kv_matched, random, norm_matched: those of which a disjoint set exists
    percentile: dict[str, Percentile]  # of each null
    dose: DoseResponse | None
    sufficiency: Sufficiency | None
    software: Software
    seconds: float
    levels: ChanceLevels | None = None  # what can be had without looking; None in results of the first round

    @property
    def control(self) -> str | None:
        """The null that a loss is first compared with: the one that knows most about the tested set; None: there is
        none."""
        return next((name for name in CONTROLS if name in self.null), None)

    def normalised(self, loss: Estimate) -> Estimate:
        """A loss of accuracy as a share of the way from base to chance."""
        way = self.base.accuracy - self.chance
        return Estimate(loss.value / way, loss.low / way, loss.high / way)

    def __repr__(self) -> str:
        core = self.conditions.core
        return (
            f"Ablation({self.model.shown} on {self.task.shown}, {self.mode}: {len(core.heads)} heads cost "
            f"{core.loss.accuracy} of accuracy {self.base})"
        )

    def _repr_html_(self) -> str:
        table: list[tuple[object, ...]] = [("nothing", 0, self.base, "")]
        table += [
            (name, len(part.heads), f"{part.accuracy:.2f} [{part.low:.2f}, {part.high:.2f}]", part.loss.accuracy)
            for name, part in self.conditions.items()
        ]
        nulls = [
            (
                name.replace("_", "-"),
                len(null.sets),
                f"{float(np.mean(null.accuracy)):.2f}",
                self.percentile[name].accuracy,
            )
            for name, null in self.null.items()
        ]
        return card(
            f"{self.mode} ablation: {self.model.shown} on {self.task.shown}",
            rows(table, ("removed", "heads", "accuracy", f"lost [{self.level:.0%}]")),
            rows(nulls, ("null", "sets", "mean accuracy", "p: loses as much as the top")),
            rows([("chance", f"{self.chance:.3f}")]),
        )
