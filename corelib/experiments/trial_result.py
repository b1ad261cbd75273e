"""What a trial of few dense heads found, in one cell of domain, length and window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from corelib.core.heads import Heads
from corelib.core.results import Result
from corelib.core.values import Accuracy, AccuracyKept, ModelFacts, RankingFacts, Software, TaskFacts, WindowFacts


@dataclass(frozen=True)
class DenseChoice:
    """Some heads dense, and others in their place."""

    dose: float  # share of all heads
    heads: Heads
    keys: float  # that a row sees on average, over all heads
    kept: AccuracyKept
    beside: float  # the same accuracy, on the questions that the sets below answered
    matched: tuple[float, ...]  # accuracy with other heads dense, of the same layers and key/value groups, by draw
    random: tuple[float, ...]  # … with any other heads dense
    uniform: UniformChoice  # no head dense, and about as many keys
    best_keys: AccuracyKept | None = None  # every row sees as many keys, those of highest attention

    @property
    def p(self) -> float:
        """How often as many matched heads keep as much: (1 + those draws) / (1 + draws)."""
        return (1 + sum(one >= self.beside for one in self.matched)) / (1 + len(self.matched))


@dataclass(frozen=True)
class UniformChoice:
    """One window for all heads."""

    width: int
    kept: AccuracyKept


@dataclass(frozen=True)
class AtDepth:
    """Accuracy where the evidence stands in one part of the prompt, 0 its beginning and 1 the question."""

    begins: float
    ends: float
    questions: int
    dense: float | None  # None: there is no question
    core: float | None  # at the first dose
    matched: float | None  # the mean over draws, of the questions that these answered
    none: float | None


@dataclass(frozen=True, repr=False)
class Trial(Result):
    """Accuracy with few heads dense, in one cell."""

    schema: ClassVar[str] = "corelib/trial/1"

    model: ModelFacts
    task: TaskFacts  # counted: those questions whose evidence is out of reach
    ranking: RankingFacts
    window: WindowFacts
    sets: int  # of pictures, behind the questions that count
    few: int  # questions that count, the first, which all conditions answered; the headline's answered all
    level: float  # of all intervals
    base: Accuracy  # all dense
    none: AccuracyKept  # no head dense
    choices: tuple[DenseChoice, ...]  # the first is the headline
    depths: tuple[AtDepth, ...]
    software: Software
    seconds: float
