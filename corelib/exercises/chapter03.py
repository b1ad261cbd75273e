"""Ranking heads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from corelib import atlas
from corelib.analysis.concentration import gini
from corelib.exercises.verdict import Verdict, compare, not_yet, right
from corelib.experiments.reading import read_heads
from corelib.metrics import PRIMARY
from corelib.models.load import load
from corelib.models.vlm import VLM
from corelib.tasks import task

HALVES = 128


def check_heads_for(heads_for: Callable[[np.ndarray, float], int]) -> Verdict:
    """Exercise 3.1: how many heads hold a share of a score?"""
    table = np.asarray(atlas.cell("mini-s", "documents").scores())
    ordered = np.sort(table.flatten())

    def count(values: np.ndarray, wanted: float) -> int:
        return int(np.searchsorted(values.cumsum() / table.sum(), wanted) + 1)

    given = [heads_for(table, wanted) for wanted in (0.5, 0.9)]
    expected = [count(ordered[::-1], wanted) for wanted in (0.5, 0.9)]
    if given == expected:
        return right()
    if given == [count(ordered, wanted) for wanted in (0.5, 0.9)]:
        return not_yet("you began with the lowest head")
    return not_yet("one head too few" if given == [n - 1 for n in expected] else f"it is not {given[0]} and {given[1]}")


def check_gini(gini_by_hand: Callable[[np.ndarray], float]) -> Verdict:
    """Exercise 3.2: the Gini coefficient."""
    cases = {"equal heads": np.ones(8), "one head of four": np.array([0.0, 0, 0, 1]), "two heads": np.array([1.0, 3])}
    for name, values in cases.items():
        if abs(gini_by_hand(values) - gini(values[None])) > 1e-6:
            return not_yet(f"{name}: it should be {gini(values[None]):.3f}")
    return right()


def check_halves(shared: object) -> Verdict:
    """Exercise 3.3 (bridge): heads that the top 14 of two halves of the samples share."""
    table = atlas.sample_scores("bridge", "scenes").reshape(2 * HALVES, -1)

    def top(values: np.ndarray) -> set[int]:
        return set(values.argsort(kind="stable")[::-1][:14].tolist())

    expected = len(top(table[:HALVES].mean(0)) & top(table[HALVES:].mean(0)))
    if shared == expected:
        return right(f"{expected} of 14")
    return not_yet("these are all heads of both" if shared == 14 else "count the heads that are in both sets")


def check_luck(share: object) -> Verdict:
    """Exercise 3.4: what do the top 3 of 48 hold if all scores are drawn from one exponential distribution?"""
    draws = np.sort(np.random.default_rng(0).exponential(size=(2000, 48)), 1)
    expected = float((draws[:, -3:].sum(1) / draws.sum(1)).mean())
    return compare({"share": share}, {"share": expected}, 0.01, {"that is 3 of 48 equal heads": {"share": 3 / 48}})


def check_untrained(value: object, untrained: VLM) -> Verdict:
    """Exercise 3.5: the Gini coefficient of RAM in a model with random weights, 64 scenes of `select`."""
    batches = {name: one.encode(list(task("scenes").draw("select", samples=64))) for name, one in _both(untrained)}
    found = {
        name: {"Gini": gini(read_heads(one, batches[name]).scores[PRIMARY.key].mean(0).numpy())}
        for name, one in _both(untrained)
    }
    return compare({"Gini": value}, found["untrained"], 0.01, {"this is the trained model": found["trained"]})


def _both(untrained: VLM) -> list[tuple[str, VLM]]:
    return [("untrained", untrained), ("trained", load("mini-s"))]
