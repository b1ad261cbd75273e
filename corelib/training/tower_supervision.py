"""What the vision tower learns by itself: every visual token says which questions it answers.

For each question that can be asked about a picture, the tokens of its evidence learn what the question names and what
the answer is:

    digit on red square ? 7        →  "on red", "on square", "digit 0: 7"
    digit left of red square ? 4   →  "left red", "left square", "digit 0: 4"   (on the neighbour)
    room on page 1 ? 471           →  "field room", "digit 0: 4", "digit 1: 7", "digit 2: 1"

Each of these facts has a fixed direction, orthogonal to all others. A token states a fact by pointing there:

    p(fact | token) = sigmoid(3 · ⟨token / scale, direction⟩ − 5),

where the scale is the token's own rms (mini models) or that of the language model's words (bridge),
and the loss is the cross-entropy of all facts at all tokens. The language model takes no part. Large models get such a
tower ready-made: theirs has learned from pictures with texts before any language model sees through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from corelib.families.regions import Grid, tokens_of_box
from corelib.tasks import Picture, Question
from corelib.tasks.documents import LABELS
from corelib.tasks.scenes import RELATIONS
from corelib.tasks.shapes import COLOURS, SHAPES

SIDES = ("on", *(name.split()[0] for name in RELATIONS))
DIGITS = 3  # the most that a value has
FACTS = (
    *(f"{side} {word}" for side in SIDES for word in (*COLOURS, *SHAPES)),
    *(f"field {label}" for label in LABELS),
    *(f"digit {place}: {digit}" for place in range(DIGITS) for digit in range(10)),
)
PLACE = {fact: place for place, fact in enumerate(FACTS)}
GAIN, BIAS = 3.0, -5.0


def facts(question: Question) -> tuple[str, ...]:
    """What a token should know in order to answer `question`.

    >>> facts(Question("relation", "digit left of red square ?", "4"))
    ('left red', 'left square', 'digit 0: 4')
    """
    words = question.text.split()
    if question.kind == "field":
        named = [f"field {words[0]}"]
    else:
        side = next((word for word in words if word in SIDES[1:]), "on")
        named = [f"{side} {word}" for word in words if word in COLOURS or word in SHAPES]
    told = () if question.kind == "frame" else enumerate(question.answer)  # which frame it is, a frame cannot know
    return (*named, *(f"digit {place}: {digit}" for place, digit in told))


@lru_cache(maxsize=4)
def directions(width: int) -> Float[Tensor, "fact width"]:
    """One direction a fact, orthonormal, the same in every run."""
    random = torch.randn(width, width, generator=torch.Generator().manual_seed(0))
    basis: Tensor = torch.linalg.qr(random).Q
    return basis[: len(FACTS)]


def _token_facts(grid: Grid, asked: Sequence[Question]) -> Bool[Tensor, "token fact"]:
    holds = torch.zeros(grid.tokens, len(FACTS), dtype=torch.bool)
    for question in asked:
        known = [PLACE[fact] for fact in facts(question)]
        for box in question.evidence:
            tokens = tokens_of_box(grid, replace(box, image=0))
            holds[tokens[:, None], known] = True
    return holds


def label(pictures: Sequence[Picture], grid: Callable[[Image.Image], Grid]) -> Bool[Tensor, "token fact"]:
    """What holds at each visual token: all questions of all pictures (pages, frames), as facts on their tokens.

    `grid` says how an image becomes tokens.
    """
    holds = []
    for picture in pictures:
        for number, image in enumerate(picture.images):
            mine = [question for question in picture.questions if question.evidence[0].image == number]
            holds.append(_token_facts(grid(image), mine))
    return torch.cat(holds)


def state_facts(
    levels: Sequence[Float[Tensor, "token width"]], holds: Bool[Tensor, "token fact"], quiet: float = 0.0
) -> tuple[Tensor, float]:
    """The loss, at every level that the language model gets (the tower's end, and where DeepStack takes features);
    and the share of tokens with something to say that state exactly the facts that hold there, at the last level.

    `quiet` times the squared length of the tokens is added: a fact is then said no louder than needed, and nothing
    else is said. (Without it, a connector without a norm behind it denies all that does not hold, ever louder.)"""
    target = holds.float()
    loss = target.new_zeros(())
    for tokens in levels:
        logits = GAIN * tokens @ directions(tokens.shape[-1]).to(tokens).T + BIAS
        each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = loss + each.sum(1).mean() + quiet * tokens.square().sum(1).mean()
    telling = holds.any(1)
    exact = ((logits > 0) == holds).all(1)[telling]
    return loss, exact.float().mean().item()
