"""What a model writes itself in the place of the right answers: the rows at which it really answers.

    own = written(vlm, task("scenes").draw("select", samples=64))
    score_heads(vlm, own)                  # RAM at the rows that predict what the model wrote
    ablate_top(vlm, own, ranking)          # how often is that still what it writes?

Everywhere else the right answer stands behind the question, and heads are read where they should predict it. A model
that reasons first, or answers in a sentence, reaches its answer at other rows. Where the right answer stands inside of
what it wrote, the rows that predict that part count; where it does not, all that was written.
"""

from __future__ import annotations

import re
from dataclasses import replace

from corelib.core.errors import BadInput
from corelib.core.progress import Progress, silent
from corelib.experiments.generate import generate_answers
from corelib.models.vlm import VLM
from corelib.tasks import Draw


def place_of(answer: str, text: str) -> tuple[int, int] | None:
    """The characters [first, past) at which an answer stands in a text, as words of its own, whatever their case: the
    last place, since reasoning comes first. None if it does not stand there.

    >>> place_of("7", "17 and 7: it is 7."), place_of("kettle", "A Kettle."), place_of("7", "17")
    ((16, 17), (2, 8), None)
    """
    found = list(re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE))
    return found[-1].span() if found else None


def written(
    vlm: VLM, draw: Draw, *, tokens: int = 32, batch_size: int | None = None, progress: Progress = silent
) -> Draw:
    """The same samples, answered by what `vlm` writes to them, greedily, at most so many `tokens`.

    Every experiment takes the draw that comes back. "Right" then means: the model still writes what it wrote. Words are
    turned into tokens again; that these are the tokens that were written is usual, and not checked.

    Raises: BadInput if `tokens` or `batch_size` is below 1, if these are written answers already, or if the model
        writes nothing.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> own = written(vlm, task("scenes").draw("select", samples=2))
    >>> own[0].answer, own[0].told
    ('9', (0, 1))
    """
    if draw.written:
        raise BadInput("these answers were written already: give the draw that they were written to")
    found = generate_answers(vlm, draw, tokens=tokens, batch_size=batch_size, progress=progress)
    texts = [text.strip() for text in found.texts]
    silent_at = next((index for index, text in enumerate(texts) if not text), None)
    if silent_at is not None:
        raise BadInput(f"{vlm.name} wrote nothing to sample {silent_at}: ask it otherwise, or let it write more tokens")
    said = ((text, place_of(sample.answer, text)) for text, sample in zip(texts, draw, strict=True))
    return replace(draw, written=tuple(said))
