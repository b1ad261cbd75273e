"""Causal ablation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from corelib import atlas
from corelib.core.heads import HeadSet
from corelib.exercises.verdict import Verdict, compare, not_yet, right


def check_matched(matched: Callable[..., HeadSet]) -> Verdict:
    """Exercise 7.1: a layer-matched control."""
    tested = HeadSet("L1H0 L1H1 L3H2")
    drawn = [matched(tested, 6, 8, np.random.default_rng(seed)) for seed in range(50)]
    counts = {layer: len(mine) for layer, mine in tested.by_layer().items()}
    if any(one & tested for one in drawn):
        return not_yet("a draw contains a tested head")
    if any({layer: len(mine) for layer, mine in one.by_layer().items()} != counts for one in drawn):
        return not_yet("the layers do not match")
    return right() if len(set(drawn)) >= 10 else not_yet("the draws are all the same")


def check_needed(heads: Iterable[object]) -> Verdict:
    """Exercise 7.2: the three heads of `mini-s` that cost most alone in documents."""
    lost = np.array(atlas.effects("mini-s", "documents-validate").alone.value)

    def top(values: np.ndarray) -> set[str]:
        return {f"L{place // lost.shape[1]}H{place % lost.shape[1]}" for place in np.argsort(-values.ravel())[:3]}

    given = {str(head) for head in heads}
    if given == top(lost):
        return right(" ".join(sorted(given)))
    return not_yet("these have the smallest losses" if given == top(-lost) else "other heads cost more")


def check_carrier(head: object) -> Verdict:
    """Exercise 7.3: the head of layer 0 that carries the shape."""
    said = {"L0H4": "this head carries the colour"}
    return right() if str(head) == "L0H7" else not_yet(said.get(str(head), "another head moves more answers"))


def check_zero(zero_heads: Callable[..., Float[Tensor, "token width"]]) -> Verdict:
    """Exercise 7.4: set the outputs of heads to zero before W_O."""
    mixed = torch.arange(24.0).view(2, 12) + 1
    expected = mixed.clone()
    expected[:, 4:8] = 0
    given = zero_heads(mixed.clone(), [1], 3)
    if not isinstance(given, Tensor) or given.shape != expected.shape:
        return not_yet("the result has the shape of the input")
    if torch.equal(given, expected):
        return right()
    wrong = mixed.clone()
    wrong[:, 1] = 0
    return not_yet(
        "this is one number; a head has several" if torch.equal(given, wrong) else "other numbers changed, too"
    )


def check_drop(drop: object) -> Verdict:
    """Exercise 7.5 (bridge): the normalised accuracy drop without the CoRe heads, in documents."""
    found = atlas.ablation("bridge", "documents")
    lost, base = found.conditions.core.loss.accuracy.value, found.base.accuracy
    mistakes = {
        "this is the loss in points": {"drop": lost},
        "this is a share of the accuracy; take chance off": {"drop": lost / base},
    }
    expected = lost / (base - found.chance)
    return compare(
        {"drop": drop},
        {"drop": expected},
        1e-3,
        {k: v for k, v in mistakes.items() if abs(v["drop"] - expected) > 1e-3},
    )
