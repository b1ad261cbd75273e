"""Read the question again behind pictures that were read once: a knockout costs no more than the rows that it changes.

Nothing that is done to rows after the pictures changes the rows before them. So one plain pass is kept, with the keys
and values of every layer, and under each program only the rows of the question and the answer run:

    answer = replay_from_question(vlm, batch)
    with knockout(vlm.model, batch.evidence, batch.after_image, heads):
        scores = answer()

The numbers are those of `vlm.answer`, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache

from corelib.core.errors import UnsupportedArchitecture
from corelib.models.answers import AnswerScores
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.layer import LayerState, add_attention, add_mlp, map_tensors
from corelib.replay.residual_cache import ResidualCache, residual_cache, scores_from_resid


def replay_from_question(vlm: VLM, batch: Batch) -> Callable[[], AnswerScores]:
    """A function that answers a batch under the programs that are active when it is called.

    The programs must change nothing at rows before `batch.after_image`: those are read once, here. A decoder that
    cannot be taken apart runs as a whole each time.

    Args:
        vlm: The model.
        batch: Samples encoded with their answers.

    Returns:
        A function without arguments. Its `AnswerScores` are [sample], on the CPU, the log-probabilities in float32.

    Raises:
        NotFinite: The pass overflowed, here or when the function is called.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> replay_from_question(vlm, vlm.encode(task("scenes").samples("test", 0, 2)))().correct.shape
    torch.Size([2])
    """
    try:
        kept = residual_cache(vlm, batch)
    except UnsupportedArchitecture:
        return partial(whole_pass, vlm, batch)
    first = int(batch.after_image.any(0).nonzero()[0])  # before it, no row of any sample is to change
    layers = [_later(layer, first) for layer in kept.layers]
    return partial(_again, replace(kept, resid_pre=kept.resid_pre[:, first:].clone(), layers=layers), first)


def whole_pass(vlm: VLM, batch: Batch) -> AnswerScores:
    """The same, everything read anew: `vlm.answer(batch)`, on the CPU.

    Raises:
        BadInput: A sample has no answer.
        NotFinite: The logits of an answer are not finite.
    """
    found = vlm.answer(batch)
    return AnswerScores(found.correct.cpu(), found.logprob.cpu())


@torch.no_grad()
def _again(kept: ResidualCache, first: int) -> AnswerScores:
    """The rows from `first` on, behind the keys and values of those before."""
    cache, last = DynamicCache(), len(kept.layers) - 1
    stream = kept.resid_pre
    for number, (block, layer) in enumerate(zip(kept.blocks, kept.layers, strict=True)):
        cache.update(layer.keys.transpose(1, 2), layer.values.transpose(1, 2), number)
        stream = add_attention(block, stream, {**layer.arguments, "past_key_values": cache})
        if number < last:
            stream = add_mlp(block, stream)
            if layer.between is not None:
                stream = stream + layer.between[:, first:]
    sequence, rows = (value.to(stream.device) for value in (kept.sequence, kept.rows))
    return scores_from_resid(kept, stream[sequence[:, None], rows - first][None])[0]


def _later(layer: LayerState, first: int) -> LayerState:
    """What is needed of a layer to run the rows from `first` on: its keys and values before, its arguments after."""
    length, mask = layer.z.shape[1], layer.arguments["attention_mask"]
    if mask is None:  # plain causal: with a cache, it must be said
        mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=layer.z.device).tril()

    def later(value: Tensor) -> Tensor:
        return value[:, first:] if value.ndim > 1 and value.shape[1] == length else value

    def before(value: Tensor) -> Tensor:  # laid out by head, as a cache keeps it
        return value[:, :first].transpose(1, 2).contiguous().transpose(1, 2)

    others = {key: map_tensors(value, later) for key, value in layer.arguments.items() if key != "attention_mask"}
    return replace(
        layer,
        resid_mid=layer.resid_mid[:, :0].clone(),  # not needed any more
        z=layer.z[:, :0].clone(),
        keys=before(layer.keys),
        values=before(layer.values),
        arguments={**others, "attention_mask": mask[:, :, first:]},
    )
