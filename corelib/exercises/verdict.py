"""What a check says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """Is an answer right, and what is there to say of it?

    >>> Verdict(False, "this is raw RAM")
    not yet: this is raw RAM
    """

    passed: bool
    said: str = ""

    def __repr__(self) -> str:
        return ("right" if self.passed else "not yet") + (f": {self.said}" if self.said else "")


def right(said: str = "") -> Verdict:
    """The answer is right."""
    return Verdict(True, said)


def not_yet(said: str) -> Verdict:
    """It is not, and this is why."""
    return Verdict(False, said)


def compare(
    given: object, expected: Mapping[Any, float], off: float, mistakes: Mapping[str, Mapping[Any, float]]
) -> Verdict:
    """A table of numbers against the right one, to within `off`; `mistakes` are wrong tables that have a name.

    >>> compare({4: 0.5}, {4: 0.9}, 0.01, {"chance": {4: 0.5}})
    not yet: chance
    """
    if not isinstance(given, Mapping) or set(given) != set(expected):
        return not_yet(f"give one number for each of {list(expected)}")

    def same(table: Mapping[Any, float]) -> bool:
        return all(_near(given[key], table.get(key), off) for key in expected)

    if same(expected):
        return right()
    return not_yet(next((said for said, wrong in mistakes.items() if same(wrong)), "some numbers differ"))


def compare_tensors(given: object, expected: Tensor, mistakes: Mapping[str, Tensor], shape: str = "") -> Verdict:
    """A tensor against the right one; `mistakes` are wrong ones that have a name, `shape` says what the axes are.

    >>> compare_tensors(torch.zeros(2), torch.ones(2), {"nothing": torch.zeros(2)})
    not yet: nothing
    """

    def same(wanted: Tensor) -> bool:
        return isinstance(given, Tensor) and given.shape == wanted.shape and torch.allclose(given, wanted, atol=1e-4)

    if same(expected):
        return right()
    known = next((said for said, wrong in mistakes.items() if same(wrong)), "")
    fits = isinstance(given, Tensor) and given.shape == expected.shape
    return not_yet(known or ("the numbers differ" if fits else f"the result should be {list(expected.shape)}{shape}"))


def _near(one: object, two: object, off: float) -> bool:
    try:
        return abs(float(one) - float(two)) <= off  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
