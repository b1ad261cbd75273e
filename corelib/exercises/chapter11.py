"""Reading the source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from corelib import atlas
from corelib.core.geometry import Box
from corelib.core.heads import Head, HeadSet
from corelib.exercises.verdict import Verdict, compare, not_yet, right
from corelib.models.locate import answer_looks, weights_of
from corelib.models.vlm import VLM
from corelib.tasks import task


def pointed_right(heads: Iterable[Head | tuple[int, int]], vlm: VLM) -> int:
    """For how many of eight pages (validate, seed 6) the highest mean attention of `heads` lies on the evidence."""
    few = task("documents").draw("validate", samples=8, seed=6)
    batch = vlm.encode(few)
    looks = answer_looks(vlm, batch, weights_of([HeadSet(heads)], vlm.num_layers, vlm.num_heads))[0]
    peaks = looks.masked_fill(~batch.visual, 0).argmax(1)
    return int(batch.evidence[torch.arange(len(few)), peaks].sum())


def check_count(count: int, vlm: VLM) -> Verdict:
    """Exercise 11.1 (bridge): the fewest heads that point at the evidence of eight pages."""
    order = atlas.cell("bridge", "documents").scores().order()
    if count < 1 or pointed_right(order[:count], vlm) < 8:
        return not_yet("for some question they point at another place")
    if count > 1 and pointed_right(order[: count - 1], vlm) == 8:
        return not_yet("fewer are enough")
    return right(f"{count} of {len(order)} heads point at all 8 places")


def check_unlabelled(heads: Sequence[tuple[int, int]], vlm: VLM) -> Verdict:
    """Exercise 11.2 (bridge): 14 heads that are chosen without labels."""
    if len(set(heads)) != 14:
        return not_yet("choose 14 heads, as (layer, head)")
    return right(f"they point at the evidence of {pointed_right(heads, vlm)} of 8 pages")


def check_auroc(auroc: Callable[[np.ndarray, np.ndarray], float]) -> Verdict:
    """Exercise 11.3: the AUROC by hand."""
    right_ones, wrong_ones = np.array([0.9, 0.8, 0.6, 0.4]), np.array([0.7, 0.4, 0.1])
    pairs = [(a > b) + 0.5 * (a == b) for a in right_ones for b in wrong_ones]
    given = auroc(right_ones, wrong_ones)
    if abs(given - np.mean(pairs)) < 1e-6:
        return right()
    if abs(given - np.mean([a > b for a in right_ones for b in wrong_ones])) < 1e-6:
        return not_yet("a tie counts one half")
    return not_yet("turn it round" if abs(given - 1 + np.mean(pairs)) < 1e-6 else f"it is not {given:.3f}")


def check_overlap(overlap: Callable[[Box, Box], float]) -> Verdict:
    """Exercise 11.4: intersection over union of two boxes."""
    cases = {(0, 0, 10, 10): 1.0, (5, 0, 15, 10): 1 / 3, (20, 20, 30, 30): 0.0, (2, 2, 4, 4): 0.04}
    for sides, expected in cases.items():
        given = overlap(Box(0, 0, 10, 10), Box(*sides))
        if abs(given - expected) > 1e-6:
            return not_yet(f"Box(0, 0, 10, 10) and Box{sides}: {given:.3f} is not their intersection over their union")
    return right()


def check_prior(share: object) -> Verdict:
    """Exercise 11.5 (bridge): how often is the centre of the first picture on the evidence, in scenes?"""
    found = atlas.locating("bridge", "scenes").others["centre"].point.value
    return compare({"share": share}, {"share": found}, 1e-3, {})
