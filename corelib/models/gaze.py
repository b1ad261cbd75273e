"""Tell chosen heads where to look, and see what the model answers then.

    plain, moved = answer_looking_at(vlm, [image], "digit on red square ?", scores.top(0.05), Box(96, 0, 128, 32))

At all rows behind the pictures, and at every token that is written, what these heads pay to other places of the
pictures is spent on the box instead (`attention/redirect.py`, mass-preserving). All other heads see everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from corelib.attention.redirect import redirect
from corelib.core.errors import BadInput
from corelib.core.geometry import Box
from corelib.core.heads import HeadSet
from corelib.core.pictures import Pictured
from corelib.models.vlm import VLM
from corelib.tasks.sample import Sample


@torch.no_grad()
def answer_looking_at(
    vlm: VLM,
    images: Pictured | Sequence[Pictured],
    question: str,
    heads: HeadSet,
    box: Box,
    *,
    video: bool = False,
    tokens: int = 8,
) -> tuple[str, str]:
    """What the model answers by itself, and what it answers when `heads` look at the box: at most as many tokens, since
    heads that look at one place for ever may say it for ever.

    Args:
        vlm: The model.
        images: Pages, pictures, or the frames of one clip (`video`).
        question: What to ask.
        heads: Those whose look is moved: the top of a ranking of this model (`HeadScores.top`).
        box: Where to look, in pixels of the picture `box.image`.
        video: The images are the frames of one clip.
        tokens: The length of an answer, at most.

    Raises: BadInput if there is no picture or no head, the box is on none of the pictures, or it leaves no other place
        to look away from; BadRegion if it touches no token.

    >>> from corelib import atlas, load, task
    >>> sample = task("scenes").sample("test", seed=0, index=0)
    >>> heads = atlas.cell("mini-s", "scenes").scores().top(0.1)
    >>> answer_looking_at(load("mini-s"), sample.images, sample.question, heads, sample.distractors[0])
    ('0', '1')
    """
    asked = Sample.of(images, question, video=video)
    if not asked.images:
        raise BadInput("there is no picture to look at: give at least one")
    if not heads:
        raise BadInput("the set of heads is empty: give at least one head")
    batch = vlm.encode([asked], answers=False)
    target = batch.cover([[box]])
    away = batch.visual & ~target
    if not away.any():
        raise BadInput(f"{box} covers all that is shown: draw it smaller")
    plain = vlm.generate(batch, tokens)[0]
    length = max(1, len(vlm.tokenizer(plain, add_special_tokens=False)["input_ids"]))
    with redirect(vlm.model, heads, away, target, pad(batch.after_image, (0, length), value=True)):
        moved = vlm.generate(batch, length)[0]
    return plain, moved
