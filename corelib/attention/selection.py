"""Positions of a batch, as a caller may give them: a mask, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import index as whole
from typing import TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from corelib.attention.call import AttentionCall
from corelib.core.errors import BadInput

Positions: TypeAlias = (
    Bool[Tensor, "batch position"] | Int[Tensor, "batch row"] | Sequence[Sequence[int]] | Sequence[int] | int
)
ALLOWED = (
    "give a boolean mask [batch, position] (of 0 and 1: .bool()), or increasing position numbers: one or a list for "
    "all sequences, or a list for each; -1 is the last of the prompt"
)


def row_index(rows: Bool[Tensor, "batch key"]) -> tuple[Int[Tensor, "batch row"], Bool[Tensor, "batch row"]]:
    """Positions of the marked rows, left-aligned and padded with 0, and which of them are real; on the device of
    `rows`.

    >>> index, valid = row_index(torch.tensor([[False, True, True], [False, False, True]]))
    >>> index.tolist(), valid.tolist()
    ([[1, 2], [2, 0]], [[True, True], [True, False]])
    """
    counts = rows.sum(1)
    longest = int(counts.max())
    index = rows.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    valid = torch.arange(longest, device=rows.device) < counts[:, None]
    return index.masked_fill(~valid, 0), valid


class Selection:
    """Marked positions of a batch, padding included, whichever way they were given.

    `given` is a boolean mask [batch, position], which must cover the prompt and may be longer; or position numbers: an
    integer, a list of them, or an integer tensor [row], for all sequences; a list of lists or an integer tensor [batch,
    row], for each its own. Negative numbers count from the end of the prompt, which is the first forward call.

    Raises:
        BadInput: it is none of these, or numbers do not increase.

    >>> Selection("rows", [[0, 2], [1]]).window(batch=2, start=0, length=3).int().tolist()
    [[1, 0, 1], [0, 1, 0]]
    """

    def __init__(self, name: str, given: object) -> None:
        self.name = name
        self.mask: Bool[Tensor, "batch position"] | None = None
        self.numbers: list[list[int]] = []  # one list, or one for each sequence
        self.prompt: int | None = None
        if isinstance(given, Tensor) and given.dtype == torch.bool and given.ndim == 2:
            self.mask = given
        else:
            try:
                self.numbers = _numbers(given)
            except (TypeError, RuntimeError):
                raise BadInput(f"{name} is {_described(given)}: {ALLOWED}") from None
            if any(one >= two and (one < 0) == (two < 0) for row in self.numbers for one, two in pairwise(row)):
                raise BadInput(f"{name} has numbers that do not increase: {ALLOWED}")

    def of_rows(self, call: AttentionCall) -> Bool[Tensor, "batch query"]:
        """Which query rows of a call are marked, on the device of the given mask.

        Raises:
            BadInput: it is of another batch size, or does not cover the prompt.
        """
        self._meet(call)
        return self.window(call.query.shape[0], call.position, call.query.shape[2])

    def of_keys(self, call: AttentionCall) -> Bool[Tensor, "batch key"]:
        """Which keys of a call are marked, on the device of the given mask. Raises what `of_rows` raises."""
        self._meet(call)
        return self.window(call.query.shape[0], call.first_key, call.key.shape[2])

    def window(self, batch: int, start: int, length: int) -> Bool[Tensor, "batch length"]:
        """`length` positions from `start` on; positions that a mask does not reach are not marked."""
        if self.mask is None:
            return self._marked(batch, start, length)
        marked = self.mask[:, start : start + length]
        return pad(marked, (0, length - marked.shape[1]))

    def _meet(self, call: AttentionCall) -> None:
        batch, rows = call.query.shape[0], call.query.shape[2]
        if call.position == 0:
            self.prompt = rows
        if self.mask is None:
            return
        if self.mask.shape[0] != batch or (call.position == 0 and self.mask.shape[1] < rows):
            raise BadInput(
                f"{self.name} is {list(self.mask.shape)}, but the model reads {[batch, rows]} (batch, positions): mark "
                "the positions of every sequence over the whole prompt, padding included"
            )

    def _marked(self, batch: int, start: int, length: int) -> Bool[Tensor, "batch length"]:
        if len(self.numbers) not in (1, batch):
            raise BadInput(f"{self.name} has {len(self.numbers)} lists for a batch of {batch}: give 1, or as many")
        marked = torch.zeros(batch, length, dtype=torch.bool)
        for row, numbers in zip(marked, self.numbers * (batch // len(self.numbers)), strict=True):
            for number in numbers:
                place = self._counted(number) - start
                if 0 <= place < length:
                    row[place] = True
        return marked

    def _counted(self, number: int) -> int:
        if number >= 0:
            return number
        if self.prompt is None:
            raise BadInput(f"{self.name} counts from the end of the prompt, but the prompt was read before the block")
        if number < -self.prompt:
            raise BadInput(f"{self.name} has {number}, but the prompt has {self.prompt} positions")
        return self.prompt + number


def _numbers(given: object) -> list[list[int]]:
    if isinstance(given, bool | str):
        raise TypeError
    if isinstance(given, Tensor):
        if given.is_floating_point() or given.dtype == torch.bool or given.ndim > 2:
            raise TypeError
        given = given.tolist()
    if not isinstance(given, Sequence):
        return [[whole(given)]]  # type: ignore[arg-type]  # a TypeError is meant
    if given and isinstance(given[0], Sequence | Tensor):
        return [[_number(one) for one in row] for row in given]
    return [[_number(one) for one in given]]


def _number(given: object) -> int:
    if isinstance(given, bool):
        raise TypeError
    return whole(given)  # type: ignore[arg-type]  # a TypeError is meant


def _described(given: object) -> str:
    return (
        f"{given.dtype} {list(given.shape)}" if isinstance(given, Tensor) else f"{type(given).__name__} {given!r:.60}"
    )
