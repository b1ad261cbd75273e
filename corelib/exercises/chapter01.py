"""Attention and visual tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from corelib.attention.intervene import knockout
from corelib.core.errors import BadRegion
from corelib.core.geometry import Box
from corelib.exercises.verdict import Verdict, compare, compare_tensors, not_yet, right
from corelib.experiments.evidence import proportion
from corelib.families.regions import tokens_of_box
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.tasks import task


def check_anchors(hide_anchors: Callable[[Batch], Bool[Tensor, "sample token"]], vlm: VLM) -> Verdict:
    """Exercise 1.1: hide the anchors, and nothing else."""
    drawn = list(task("scenes", relational=1.0).draw("validate", samples=48, seed=2))
    batch = vlm.encode(drawn)
    mask = hide_anchors(batch)
    for wrong, message in (
        (not mask.any(), "nothing is hidden"),
        ((mask & batch.evidence).any(), "the evidence is hidden too, so the answer must fail"),
        ((mask & ~batch.visual).any(), "words are hidden too"),
        (not torch.equal(mask, batch.anchors & ~batch.evidence), "these are not the anchors"),
    ):
        if wrong:
            return not_yet(message)
    with knockout(vlm.model, mask, batch.after_image):
        found = proportion(vlm.answer(batch).correct.tolist())
    base = proportion(vlm.answer(batch).correct.tolist())
    interval = f"95 % interval {found.low:.2f} to {found.high:.2f}"
    return right(f"{len(drawn)} questions: base {base.accuracy:.2f}; anchor hidden {found.accuracy:.2f} ({interval})")


def check_grid(counts: object, vlm: VLM) -> Verdict:
    """Exercise 1.2: evidence tokens of 48 documents (validate, seed 1) at two thresholds."""
    drawn = list(task("documents").draw("validate", samples=48, seed=1))
    batch = vlm.encode(drawn)

    def number(threshold: float, turned: bool = False) -> int:
        total = 0
        for one, views in zip(drawn, batch.views, strict=True):
            for box in one.evidence:
                flat = Box(box.x0, box.y0, box.x1, box.y1)
                try:
                    total += len(tokens_of_box(views[0 if turned else box.image].grid, flat, threshold))
                except BadRegion:
                    pass
        return total

    expected = {threshold: float(number(threshold)) for threshold in (0.0, 0.2)}
    mistakes = {"the threshold never changed": dict.fromkeys(expected, expected[0.0])}
    return compare(counts, expected, 0.5, mistakes)


def check_attention(causal_attention: Callable[..., Float[Tensor, "row key"]]) -> Verdict:
    """Exercise 1.3: attention from queries and keys."""
    query, key = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    scaling = 8**-0.5
    scores, past = query @ key.T * scaling, torch.ones(5, 5, dtype=torch.bool).tril()
    expected = scores.masked_fill(~past, -torch.inf).softmax(-1)
    mistakes = {
        "a row sees the future": scores.softmax(-1),
        "a score of 0 is not no attention: masked keys need minus infinity": (scores * past).softmax(-1),
        "rows no longer sum to 1: mask before the softmax": scores.softmax(-1) * past,
        "the scores are not scaled": (scores / scaling).masked_fill(~past, -torch.inf).softmax(-1),
    }
    return compare_tensors(causal_attention(query, key, scaling), expected, mistakes)


def check_group(kv_head_of: Callable[[int, int, int], int]) -> Verdict:
    """Exercise 1.4: which key/value head does a query head use?"""
    for heads, kv_heads in ((8, 4), (9, 3), (16, 8)):
        given = [kv_head_of(head, heads, kv_heads) for head in range(heads)]
        if given != [head * kv_heads // heads for head in range(heads)]:
            if given == [head % kv_heads for head in range(heads)]:
                return not_yet("neighbours share a head: 0 and 1, not 0 and 4")
            return not_yet(f"of {heads} query heads on {kv_heads}: {given}")
    return right()


def check_writes(head_writes: Callable[..., Float[Tensor, "head width"]]) -> Verdict:
    """Exercise 1.5: what each head adds to the residual stream."""
    generator = torch.Generator().manual_seed(0)
    z, w_o = torch.randn(3, 4, generator=generator), torch.randn(6, 12, generator=generator)
    expected = torch.stack([w_o[:, 4 * head : 4 * head + 4] @ z[head] for head in range(3)])
    mistakes = {"this is the output before W_O": z, "all heads get the columns of the first": (w_o[:, :4] @ z.T).T}
    return compare_tensors(head_writes(z, w_o), expected, mistakes)
