"""What a windowed head sees: the first keys of the sequence, and the last ones up to itself."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index as whole

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from corelib.core.errors import BadInput


@dataclass(frozen=True)
class Window:
    """The row at position p sees the keys k ≤ p with k < sinks or k > p − width.

    `sinks` are the first tokens of the sequence, which many heads look at when they have nothing to say; by default 4,
    better everything before the first visual token.

    Raises:
        BadInput: width is no whole number from 1 up, or sinks none from 0 up.

    Source: Xiao et al. (2024), "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453.

    >>> Window(2, sinks=1).seen(torch.arange(4)[:, None], torch.arange(4)).int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]]
    """

    width: int
    sinks: int = 4

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("sinks", 0)):
            given = getattr(self, name)
            try:
                number = whole(given)
            except TypeError:
                number = least - 1
            if number < least or isinstance(given, bool):
                raise BadInput(f"{name} is {given!r}: give a whole number of tokens, {least} or more")
            object.__setattr__(self, name, number)

    def seen(self, rows: Int[Tensor, "*place"], keys: Int[Tensor, "*place"]) -> Bool[Tensor, "*place"]:
        """May the rows at these positions see the keys at those? Positions count from the first real token."""
        return (keys <= rows) & ((keys < self.sinks) | (keys > rows - self.width))

    def mean_seen(self, rows: int, before: int = 0) -> float:
        """How many keys a row sees on average, over `rows` rows that follow `before` others.

        >>> Window(2, sinks=1).mean_seen(4), Window(9).mean_seen(4)  # (1 + 2 + 3 + 3) / 4, and (1 + 2 + 3 + 4) / 4
        (2.25, 2.5)
        """
        positions = torch.arange(before, before + rows, dtype=torch.double)
        return float((positions + 1).clamp(max=self.sinks + self.width).mean())


def mean_keys(dense: float, window: Window, rows: int) -> float:
    """How many keys a row sees on average over all heads, if a share `dense` of them sees everything before it, and all
    others the window.

    >>> mean_keys(0.5, Window(2, sinks=1), 4)  # (2.5 + 2.25) / 2
    2.375
    """
    return dense * (rows + 1) / 2 + (1 - dense) * window.mean_seen(rows)


def width_for(keys: float, sinks: int, rows: int) -> int:
    """The width of the window with which a row sees about so many `keys` on average, over `rows` rows.

    >>> width_for(2.3, 1, 4), width_for(100.0, 0, 4)
    (2, 4)
    """
    return min(range(1, rows + 1), key=lambda width: abs(Window(width, sinks).mean_seen(rows) - keys))
