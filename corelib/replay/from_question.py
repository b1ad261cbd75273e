"""Read the question again behind pictures that were read once: a blindfold costs no more than the rows that wear it.

Nothing that is done to rows after the pictures changes the rows before them. So one plain pass is kept, with the keys
and values of every layer, and under each program only the rows of the question and the answer run:

    answer = rereading(vlm, encoded)
    with blind(vlm.model, encoded.evidence, encoded.after_image, heads):
        scores = answer()

The numbers are those of `vlm.answer`, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from corelib.core.errors import UnsupportedArchitecture
from corelib.models.answers import AnswerScores
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.residual_cache import (
    ResidualCache,
    add_attention,
    add_mlp,
    map_tensors,
    residual_cache,
    scores_from_resid,
)


def replay_from_question(vlm: VLM, encoded: Batch) -> Callable[[], AnswerScores]:
    """A function that answers the batch under the programs that are active when it is called. They must change nothing
    at rows before `encoded.after_image`. A decoder that cannot be taken apart runs as a whole each time."""
    try:
        kept = residual_cache(vlm, encoded)
    except UnsupportedArchitecture:
        return partial(whole_pass, vlm, encoded)
    first = int(encoded.after_image.any(0).nonzero()[0])  # before it, no row of any sample is to change
    past = [
        tuple(value[:, :first].transpose(1, 2).contiguous() for value in both)
        for both in zip(kept.keys, kept.values, strict=True)
    ]
    later = {
        "resid_pre": kept.resid_pre[:, first:].clone(),
        "arguments": [_later(one, first, kept.resid_pre) for one in kept.arguments],
    }
    kept = replace(kept, **later, resid_mid=[], keys=[], values=[], z=[])  # the rest is not needed any more
    return partial(_again, kept, first, past)


def whole_pass(vlm: VLM, encoded: Batch) -> AnswerScores:
    """The same, everything read anew."""
    found = vlm.answer(encoded)
    return AnswerScores(found.correct.cpu(), found.logprob.cpu())


@torch.no_grad()
def _again(kept: ResidualCache, first: int, past: list[tuple[Tensor, Tensor]]) -> AnswerScores:
    cache, last = DynamicCache(), len(kept.layers) - 1
    stream = kept.resid_pre
    for number, layer in enumerate(kept.layers):
        cache.update(*past[number], number)
        stream = add_attention(layer, stream, {**kept.arguments[number], "past_key_values": cache})
        if number < last:
            stream = add_mlp(layer, stream)
            if kept.between[number] is not None:
                stream = stream + kept.between[number][:, first:]
    return scores_from_resid(kept, stream[kept.sequence[:, None], kept.rows - first][None])[0]


def _later(arguments: dict, first: int, entered: Float[Tensor, "batch position width"]) -> dict:
    """What a layer's attention is given, for the rows from `first` on."""
    length, mask = entered.shape[1], arguments["attention_mask"]
    if mask is None:  # plain causal: with a cache, it must be said
        mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=entered.device).tril()

    def later(value: Tensor) -> Tensor:
        return value[:, first:] if value.ndim > 1 and value.shape[1] == length else value

    others = {key: map_tensors(value, later) for key, value in arguments.items() if key != "attention_mask"}
    return {**others, "attention_mask": mask[:, :, first:]}
