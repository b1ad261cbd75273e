"""What corelib must know about a family of models: little, and only how pictures become tokens.

Attention, layers and heads are read off the model itself (`corelib.attention`). A family says where the pictures
lie in the sequence. Every family is one small file with a subclass of `Family`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from corelib.regions import Grid
from corelib.tasks.sample import Sample


@dataclass(frozen=True)
class Picture:
    """One picture, page or frame in the sequence: its grid, and the position of each of its tokens."""

    grid: Grid
    positions: Int[Tensor, " token"]


def runs(marked: Bool[Tensor, " token"]) -> list[Int[Tensor, " run"]]:
    """Positions of each unbroken run of True.

    >>> [run.tolist() for run in runs(torch.tensor([True, True, False, True]))]
    [[0, 1], [3]]
    """
    positions = marked.nonzero().flatten()
    breaks = (positions.diff() > 1).nonzero().flatten() + 1
    return [run for run in torch.tensor_split(positions, breaks.tolist()) if len(run)]


class Family(ABC):
    """One adapter a family. It never computes a score."""

    @abstractmethod
    def inputs(self, samples: list[Sample], answers: bool) -> tuple[dict[str, Tensor], Int[Tensor, "sample 2"]]:
        """Model inputs, left-padded, and how many tokens at the end of each row are (question, answer)."""

    @abstractmethod
    def grid(self, image: Image.Image) -> Grid:
        """The visual tokens that one picture becomes."""

    @abstractmethod
    def visual(self, inputs: dict[str, Tensor]) -> Bool[Tensor, "batch token"]:
        """Which tokens stand for pixels."""

    @abstractmethod
    def pictures(self, inputs: dict[str, Tensor], samples: list[Sample]) -> list[list[Picture]]:
        """For every sample, its pictures in order."""
