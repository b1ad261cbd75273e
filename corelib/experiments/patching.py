"""Activation patching between two prompts that differ in one word: whose answer comes out?

    found = patched(vlm, samples, HeadSet("L0H4"))
    found.moved, found.others            # by this head, and by each other head of its layer

Source: Wang et al. (2022), arXiv:2211.00593.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from corelib.analysis.stats import bootstrap_interval, estimate
from corelib.attention.head_outputs import head_outputs
from corelib.attention.intervene import ablate
from corelib.core.heads import HeadSet
from corelib.core.values import Estimate
from corelib.experiments.head_story_result import Patched
from corelib.experiments.one_word import one_word_pairs
from corelib.models.vlm import VLM
from corelib.replay.from_question import Replay, replay_from_question
from corelib.tasks.sample import Sample


def guesses(answer: Replay) -> Int[Tensor, "sample row"]:
    """The most likely token at each row that predicts the answer, those before it being given."""
    found = answer().guesses
    assert found is not None  # replays give them
    return found


@torch.no_grad()
def patched(vlm: VLM, samples: Sequence[Sample], head: HeadSet) -> Patched | None:
    """Between prompts that differ in one word: the head's outputs at the question's rows come from the other prompt.
    Beside it every other head of the layer. None if there are no such pairs."""
    pairs = one_word_pairs(samples)
    if not pairs:
        return None
    own, other = vlm.encode([one.sample for one in pairs]), vlm.encode([one.rival for one in pairs])
    if own.tokens.shape != other.tokens.shape:
        return None
    alike = ((own.real == other.real).all(1) & (own.lengths == other.lengths).all(1)).cpu()
    first = own.rows("last").roll(1, 1)
    mine, theirs = own.tokens[first].cpu(), other.tokens[first].cpu()
    rows = own.after_image & own.rows("answer").cumsum(1).le(1) & ~first
    layer, answer = next(iter(head)).layer, replay_from_question(vlm, own)
    with head_outputs(vlm.model, [layer]) as there:
        vlm.model(**other.inputs, use_cache=False, logits_to_keep=1)

    def moved(heads: HeadSet) -> tuple[Tensor, Tensor]:
        with ablate(vlm.model, heads, replacement=there, rows=rows):
            said = guesses(answer)[:, 0]
        return said == theirs, said == mine

    counted = alike & moved(HeadSet())[1]
    if int(counted.sum()) < 2:
        return None
    clusters = [pair.sample.cluster for pair, counts in zip(pairs, counted.tolist(), strict=True) if counts]
    interval = partial(bootstrap_interval, clusters=clusters)

    def share(values: Tensor) -> Estimate:
        return estimate(values[counted].double().numpy(), interval)

    to, stay = moved(head)
    others = HeadSet((layer, k) for k in range(vlm.num_heads)) - head
    return Patched(
        pairs=int(counted.sum()),
        moved=share(to),
        stayed=share(stay),
        others={str(one): round(float(moved(HeadSet([one]))[0][counted].double().mean()), 4) for one in others},
        whole_layer=round(float(moved(others | head)[0][counted].double().mean()), 4),
    )
