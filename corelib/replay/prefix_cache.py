"""Answer many questions about one picture, or one long row of pictures, under program after program.

A sequence of thousands of tokens is nearly all pictures. They are looked at by the vision tower once, read by the
decoder once under each program, and all questions stand behind them in one batch:

    answer = together(vlm, vlm.encode(work.about("test", 0, 0, count=16)))
    plain = answer()
    with sparsify(vlm.model, dense, window):
        scores = answer()

Unlike in `from_question.py` a program may change rows of the pictures too. The numbers are those of `vlm.answer`, but
for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from corelib.core.errors import BadInput
from corelib.models.answers import AnswerScores, score_answers
from corelib.models.batch import Batch
from corelib.models.vlm import VLM


def replay_from_prefix(vlm: VLM, encoded: Batch) -> Callable[[], AnswerScores]:
    """A function that answers the batch, all of it about one picture, under the programs that are active when it is
    called."""
    if len({sample.cluster for sample in encoded.samples}) > 1:
        raise BadInput("samples about several pictures: answer those of each picture on their own")
    length, sizes = encoded.tokens.shape[1], encoded.lengths.sum(1).tolist()
    begins = [length - size for size in sizes]  # of the questions
    first = vlm.encode(encoded.samples[:1])
    past = first.tokens.shape[1] - sizes[0]
    whole = {
        name: value[:, :past] if value.shape == first.tokens.shape else value for name, value in first.inputs.items()
    }
    common = whole["input_ids"]
    given = [row[real] for row, real in zip(encoded.tokens, encoded.real, strict=True)]
    if any(not torch.equal(row[:-size], common[0]) for row, size in zip(given, sizes, strict=True)):
        raise BadInput("these samples do not begin alike: one picture has one prefix")

    def behind(values: Tensor) -> Tensor:
        """What stands at the questions and answers, from the left."""
        return pad_sequence([row[begin:] for row, begin in zip(values, begins, strict=True)], batch_first=True)

    tails, rows = behind(encoded.tokens), behind(encoded.rows("answer"))
    real = torch.cat([torch.ones(len(tails), past, dtype=torch.long), behind(encoded.real).long().cpu()], 1)
    real, memory = real.to(tails.device), {}

    @torch.no_grad()
    def answer() -> AnswerScores:
        cache = DynamicCache()
        with cached_image_features(vlm.model, memory):
            vlm.model(**whole, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(tails))
        ahead = getattr(vlm.model.model, "rope_deltas", None)  # Qwen: pictures take fewer positions than tokens
        place = torch.arange(past, real.shape[1], device=tails.device).expand(tails.shape)
        place = place if ahead is None else place + ahead
        logits = vlm.model(
            input_ids=tails, attention_mask=real, position_ids=place, past_key_values=cache, use_cache=True
        ).logits
        found = score_answers(logits[:, :-1].float(), tails[:, 1:], rows[:, :-1])
        return AnswerScores(found.correct.cpu(), found.logprob.cpu())

    return answer


@contextmanager
def cached_image_features(model: nn.Module, memory: dict) -> Iterator[None]:
    """The vision tower looks at the pictures of a pass if `memory` is empty, and remembers what it saw in it."""
    inner = model.model
    look = inner.get_image_features

    def remembering(*given, **options):
        if "seen" not in memory:
            memory["seen"] = look(*given, **options)
        return memory["seen"]

    inner.get_image_features = remembering
    try:
        yield
    finally:
        del inner.get_image_features  # the method of the class is there again
