"""A language model learns to see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from corelib import atlas
from corelib.analysis.overlap import overlap, overlap_within_layers
from corelib.exercises.verdict import Verdict, compare, not_yet, right

LAYERS, HEADS = 30, 9
FRACTIONS = (0.02, 0.05, 0.10, 0.20)


def check_shared_by_chance(shared_by_chance: Callable[..., float]) -> Verdict:
    """Exercise 6.1: heads that two sets share by chance within layers."""
    one, two = (atlas.cell("bridge", domain).scores().top() for domain in ("recital", "scenes"))
    expected = overlap_within_layers(one, two, LAYERS, HEADS).expected
    given = shared_by_chance(one, two, np.random.default_rng(0))
    if abs(given - expected) < 0.1:
        return right()
    from_all = overlap(one, two, LAYERS * HEADS).expected
    return not_yet("you drew from all layers" if abs(given - from_all) < 0.1 else f"it is not {given:.2f}")


def check_thresholds(shared: object) -> Verdict:
    """Exercise 6.2: heads that text before and scenes share, by fraction."""
    before, scenes = atlas.cell("smollm2", "recital").scores(), atlas.cell("bridge", "scenes").scores()
    expected = {fraction: float(len(before.top(fraction) & scenes.top(fraction))) for fraction in FRACTIONS}
    after = atlas.cell("bridge", "recital").scores()
    mistakes = {"this is text after training": {f: float(len(after.top(f) & scenes.top(f))) for f in FRACTIONS}}
    return compare(shared, expected, 0.1, mistakes)


def check_adapter(adapted: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Verdict:
    """Exercise 6.3: a weight with its low-rank adapter."""
    generator = torch.Generator().manual_seed(0)
    weight, a, b = (torch.randn(*size, generator=generator) for size in ((6, 5), (2, 5), (6, 2)))
    given = adapted(weight, a, b, 4.0)
    if not isinstance(given, Tensor) or given.shape != weight.shape:
        return not_yet(f"the result should be {list(weight.shape)}: B A, and not A B")
    if torch.allclose(given, weight + 2.0 * b @ a, atol=1e-5):
        return right()
    return not_yet(
        "divide α by the rank" if torch.allclose(given, weight + 4.0 * b @ a, atol=1e-5) else "the numbers differ"
    )


def check_parameters(count: object) -> Verdict:
    """Exercise 6.4: numbers in a rank-16 adapter of a 576 × 576 weight."""
    mistakes = {"that is the weight itself": {"numbers": 576 * 576}, "A and B are two matrices": {"numbers": 16 * 576}}
    return compare({"numbers": count}, {"numbers": 2 * 16 * 576}, 0.5, mistakes)


def check_luck(p: object) -> Verdict:
    """Exercise 6.5: how likely is it that two heads on top agree by chance, if both are known to be of one key/value
    group, in a layer of 9 heads and 3 groups?"""
    mistakes = {"the group is known, too": {"p": 1 / 36}, "that is chance over all 270 heads": {"p": 1 / 36315}}
    return compare({"p": p}, {"p": 1 / 9}, 1e-4, mistakes)
