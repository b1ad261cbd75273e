"""What the tokens of a prompt are to a reader: what a head can be said to look at.

first token           the very first of the sequence, where attention rests that has nowhere to go
pictures              all visual tokens (or, in a text, what can be asked about)
other labels          text before the question: "page 1:", line ends
place number          the number in the question that names a page or a frame
sought words          words of the question that say what to look for: a colour and a shape, a field
template words        all other words of the question, its mark, and what closes the prompt
first answer token    and later answer tokens
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.tasks.base import TEMPLATE


def token_kinds(vlm: VLM, batch: Batch) -> dict[str, Bool[Tensor, "sample token"]]:
    """Which tokens of a batch are of each kind; together they are all that are not padding, each once.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> batch = vlm.encode(task("scenes").samples("test", 0, 2))
    >>> kinds = token_kinds(vlm, batch)
    >>> bool((torch.stack(list(kinds.values())).sum(0) == batch.real).all())
    True
    """
    words = {int(token): str(vlm.tokenizer.decode([token])).strip() for token in batch.tokens.unique()}
    number = torch.isin(batch.tokens, torch.tensor([t for t, word in words.items() if word.isdigit()]).to(batch.tokens))
    template = torch.isin(
        batch.tokens, torch.tensor([t for t, word in words.items() if not word or word in TEMPLATE]).to(batch.tokens)
    )
    asked = batch.rows("question")
    answer = batch.rows("answer").roll(1, 1) & (batch.lengths[:, 2:] > 0)  # the tokens that these rows predict
    begun = answer & (answer.cumsum(1) == 1)
    first = batch.real & (batch.real.cumsum(1) == 1)
    tail = batch.after_image & batch.real & ~asked & ~answer
    kinds = {
        "first token": first,
        "pictures": batch.source & ~first,
        "place number": asked & number,
        "sought words": asked & ~number & ~template,
        "template words": (asked & template & ~number) | tail,
        "first answer token": begun,
        "later answer tokens": answer & ~begun,
    }
    rest = batch.real & ~torch.stack(list(kinds.values())).any(0)
    return {
        "first token": first,
        "other labels": rest,
        **{name: one for name, one in kinds.items() if name != "first token"},
    }
