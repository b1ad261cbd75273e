"""Moving the gaze."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from corelib import atlas
from corelib.attention.redirect import redirect
from corelib.core.heads import HeadSet
from corelib.exercises.verdict import Verdict, compare, compare_tensors, not_yet, right
from corelib.experiments.rivals import Asked
from corelib.models.vlm import VLM


def check_others(others: HeadSet, core: HeadSet, asked: Asked, vlm: VLM) -> Verdict:
    """Exercise 8.1 (bridge): redirect all other heads."""
    if others & core or len(others) + len(core) != vlm.num_layers * vlm.num_heads:
        return not_yet("take every head that is not in `core`")
    evidence, target = asked.evidence[:, 0], asked.target[:, 0]
    with redirect(vlm.model, others, evidence, target, asked.batch.after_image):
        return right(f"the answer is {vlm.answer(asked.batch).predicted[0]}")


def check_foretold(intervention: object) -> Verdict:
    """Exercise 8.2: after which intervention can you foretell the answer?"""
    if intervention == "redirect":
        return right("the answer is that of the object you chose")
    return not_yet(
        "without the heads the answer is some digit: which one?"
        if intervention == "ablate"
        else "say 'redirect' or 'ablate'"
    )


def check_redirected(redirected: Callable[..., Float[Tensor, " width"]]) -> Verdict:
    """Exercise 8.3: the output of a head whose gaze is moved."""
    generator = torch.Generator().manual_seed(0)
    attention, values = torch.rand(6, generator=generator).softmax(0), torch.randn(6, 4, generator=generator)
    evidence, target = torch.tensor([1, 1, 0, 0, 0, 0]).bool(), torch.tensor([0, 0, 0, 1, 1, 1]).bool()
    paid, seen = attention[evidence].sum(), attention @ values
    without = seen - attention[evidence] @ values[evidence]
    expected = without + paid * values[target].mean(0)
    mistakes = {
        "the attention that the target had before is kept": without,
        "spend the mass evenly: take the mean of the target's values, not the sum": without
        + paid * values[target].sum(0),
        "the evidence is still seen": seen + paid * values[target].mean(0),
    }
    return compare_tensors(redirected(attention, values, evidence, target), expected, mistakes)


def check_fewest(count: object) -> Verdict:
    """Exercise 8.4 (bridge): the fewest heads that move nine tenths of what the top 5 % move, in scenes."""
    found = atlas.redirection("bridge", "scenes")
    wanted = 0.9 * found.core.moved.value
    enough = sorted(int(number) for number, one in found.doses.items() if one.moved.value >= wanted)
    if count == enough[0]:
        return right(f"{count} heads")
    return not_yet("fewer are enough" if count in enough else "they move fewer than nine tenths of it")


def check_least_p(p: object) -> Verdict:
    """Exercise 8.5: the least p that six matched sets allow."""
    return compare(
        {"p": p}, {"p": 1 / 7}, 1e-3, {"the tested set counts, too": {"p": 1 / 6}, "a p is never 0": {"p": 0.0}}
    )
