"""Head scores of large models that others measured, by the statistics of this book: numbers, never their tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import spearmanr

from corelib.analysis.concentration import half_share, top_share
from corelib.analysis.layers import group_share, median_depth
from corelib.analysis.overlap import overlap_within_groups
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.core.results import Result
from corelib.core.values import Reliability, Software


@dataclass(frozen=True)
class Source:
    """Where a file comes from."""

    repository: str  # owner/name on GitHub
    commit: str
    path: str
    sha256: str
    licence: str  # what the repository says


@dataclass(frozen=True)
class PublishedRanking:
    """One file of head scores."""

    name: str  # of the model
    score: str  # what was measured, in a few words
    modality: str  # of the evidence: text or image
    layers: int
    heads: int  # of a layer, that have a score of their own
    kv_heads: int
    counted: int  # heads that can reach the evidence
    samples: int  # scores of each head
    top_share: float  # of the sum of positive scores, what the top 5 % hold
    half_share: float  # the share of heads that hold half of it
    group_share: float | None  # of ranks within layers, what key/value groups explain; None: each head is a group
    group_chance: float | None
    median_depth: float | None  # of the top 5 %; None: not told
    reliability: Reliability | None  # on halves of the samples
    source: Source | None  # None: the numbers are told by others

    @classmethod
    def of(cls, scores: HeadScores, *, score: str, modality: str, source: Source) -> PublishedRanking:
        """The numbers of one file. Negative scores count as none, as MMRetHeads has it."""
        facts, table = scores.model, np.maximum(np.asarray(scores), 0)[list(scores.layers)]
        grouped = facts.num_kv_heads < facts.num_heads
        share, chance = group_share(scores, facts.num_kv_heads) if grouped else (None, None)
        return cls(
            name=facts.name,
            score=score,
            modality=modality,
            layers=facts.num_layers,
            heads=facts.num_heads,
            kv_heads=facts.num_kv_heads,
            counted=table.size,
            samples=scores.task.samples,
            top_share=top_share(table),
            half_share=half_share(table),
            group_share=share,
            group_chance=chance,
            median_depth=median_depth(scores.top(), facts.num_layers),
            reliability=scores.reliability,
            source=source,
        )


@dataclass(frozen=True)
class PublishedPair:
    """Two rankings of the same heads."""

    one: str
    two: str
    what: str  # is compared, in a few words
    heads: int  # in each top set
    shared: int
    expected: float  # by chance, with layers and key/value groups kept
    p: float
    spearman: float

    @classmethod
    def of(cls, one: HeadScores, two: HeadScores, names: tuple[str, str], what: str) -> PublishedPair:
        """Raises: BadInput if they are not of as many layers, heads and key/value heads."""
        a, b = one.model, two.model
        size = (a.num_layers, a.num_heads, a.num_kv_heads)
        if size != (b.num_layers, b.num_heads, b.num_kv_heads):
            raise BadInput(f"{names[0]} and {names[1]} have other numbers of heads: theirs do not correspond")
        found = overlap_within_groups(one.top(), two.top(), *size)
        rank = spearmanr(np.asarray(one).ravel(), np.asarray(two).ravel()).statistic
        return cls(*names, what, len(one.top()), len(found.shared), found.expected, found.chance, float(rank))


@dataclass(frozen=True, repr=False)
class Published(Result):
    """What others measured on large models."""

    schema: ClassVar[str] = "corelib/published/1"

    rankings: tuple[PublishedRanking, ...]
    pairs: tuple[PublishedPair, ...]
    told: tuple[PublishedRanking, ...]  # numbers that we could not compute anew: their files could not be had
    told_by: str  # where these come from
    software: Software

    def __repr__(self) -> str:
        return f"Published({len(self.rankings)} rankings, {len(self.pairs)} pairs; {len(self.told)} told by others)"
