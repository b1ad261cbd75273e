"""How heads form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from corelib.core import model_folder
from corelib.core.heads import Head
from corelib.exercises.verdict import Verdict, compare, not_yet, right
from corelib.experiments.formation import Formation, turning_points
from corelib.metrics import Metric

QUESTION = Metric("raw", "question", "max")


def _formation(name: str) -> Formation:
    return Formation.load(model_folder.bundled_folder(name))


def check_steepest(steepest: Callable[[Sequence[int], Tensor], int]) -> Verdict:
    """Exercise 5.1: the scored step after the steepest rise per step."""
    given = steepest([0, 10, 20, 40, 80], torch.tensor([0.1, 0.1, 0.3, 0.6, 0.9]))
    said = {
        3: "divide by the number of steps",
        4: "divide by the number of steps",
        1: "the rise belongs to the step after it",
    }
    return right() if given == 2 else not_yet(said.get(given, "it is another step"))


def check_first_head(head: object) -> Verdict:
    """Exercise 5.2: which head of `mini-s` is the first to reach RAM 0.3 at the question, in documents?"""
    formation = _formation("mini-s")
    table = formation.scores("documents", QUESTION)
    _, layer, index = (table >= 0.3).nonzero()[0].tolist()
    last = Head(*divmod(int(formation.scores("documents")[-1].argmax()), table.shape[2]))
    if str(head) == str(Head(layer, index)):
        return right(f"{head}")
    return not_yet("this head leads at the end" if str(head) == str(last) else "another head is earlier")


def check_turning(steps: object) -> Verdict:
    """Exercise 5.3: the step `at` which scenes turn, by seed, counted from the first scored step."""
    expected, raw = {}, {}
    for name in ("mini-s", "mini-s-seed1", "mini-s-seed2"):
        formation = _formation(name)
        at = turning_points(formation.accuracy("scenes"))["at"]
        expected[name], raw[name] = float(formation.steps[at] - formation.steps[0]), float(at)
    return compare(steps, expected, 0.5, {"these are positions in the list of steps, not steps": raw})


def check_order(answer: object) -> Verdict:
    """Exercise 5.4 (bridge): had its best text head of step 0 more or less RAM on the recital in the middle?"""
    formation = _formation("bridge")
    table = formation.scores("recital")
    first = divmod(int(table[0].argmax()), table.shape[2])
    lowest = float(table[:, first[0], first[1]].min() / table[0, first[0], first[1]])
    return compare(
        {"share": answer},
        {"share": lowest},
        0.02,
        {"this is the last step": {"share": float(table[-1, first[0], first[1]] / table[0, first[0], first[1]])}},
    )


def check_before(count: object) -> Verdict:
    """Exercise 5.5: in how many of nine seeds and domains is half of the RAM at the answer there before half of the
    accuracy?"""

    def half(values: Tensor) -> int:
        return int(((values - values[0]) / (values.amax() - values[0]) >= 0.5).nonzero()[0])

    pairs = []
    for name in ("mini-s", "mini-s-seed1", "mini-s-seed2"):
        formation = _formation(name)
        for domain in ("scenes", "documents", "video"):
            table = formation.scores(domain, Metric("raw", "answer", "mean"))
            pairs.append((half(table.amax((1, 2))), half(formation.accuracy(domain))))
    before, together = sum(a < b for a, b in pairs), sum(a <= b for a, b in pairs)
    if count == before:
        return right(f"{before} of {len(pairs)}")
    return not_yet("at the same step is not before" if count == together else "compare the two steps in every pair")
