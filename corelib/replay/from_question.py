"""Read the question again behind pictures that were read once: a knockout costs no more than the rows that it changes.

Nothing that is done to rows after the pictures changes the rows before them. So one plain pass is kept, with the keys
and values of every layer, and under each program only the rows of the question and the answer run:

    answer = replay_from_question(vlm, batch)
    with knockout(vlm.model, batch.evidence, batch.after_image, heads):
        scores = answer()

A program that leaves the first layers alone need not run them: `answer(17)` begins at layer 17. The numbers are those
of `vlm.answer`, but for rounding.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from corelib.attention.record import row_index
from corelib.core.errors import BadInput, UnsupportedArchitecture
from corelib.models.answers import AnswerScores
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.layer import Block, LayerState, add_attention, add_mlp, map_tensors
from corelib.replay.residual_cache import ResidualCache, residual_cache, scores_from_resid


class Replay(Protocol):
    """A function that answers a batch under the programs that are active when it is called."""

    def __call__(self, first_layer: int = 0) -> AnswerScores: ...


def replay_from_question(vlm: VLM, batch: Batch) -> Replay:
    """A function that answers a batch under the programs that are active when it is called.

    The programs must change nothing at rows before `batch.after_image`, which are read once, here, nor in layers before
    `first_layer`. A decoder that cannot be taken apart runs as a whole each time.

    Args:
        vlm: The model.
        batch: Samples encoded with their answers.

    Returns:
        A function of the first layer that a program changes (default 0). Its `AnswerScores` are [sample], on the CPU,
        the log-probabilities in float32.

    Raises:
        NotFinite: The pass overflowed, here or when the function is called.
        BadInput: The function is called with a layer that is not there.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> replay_from_question(vlm, vlm.encode(task("scenes").samples("test", 0, 2)))().correct.shape
    torch.Size([2])
    """
    try:
        kept = residual_cache(vlm, batch)
    except UnsupportedArchitecture:
        return partial(_whole, vlm, batch)
    first = int(batch.after_image.any(0).nonzero()[0])  # before it, no row of any sample is to change
    layers = [_later(layer, first) for layer in kept.layers]
    return partial(_again, replace(kept, resid_pre=kept.resid_pre[:, first:].clone(), layers=layers), first)


def _whole(vlm: VLM, batch: Batch, first_layer: int = 0) -> AnswerScores:
    _check_layer(first_layer, vlm.num_layers)
    return whole_pass(vlm, batch)


def _check_layer(layer: int, layers: int) -> None:
    if not 0 <= layer < layers:
        raise BadInput(f"layer {layer}: the model has layers 0 to {layers - 1}")


def whole_pass(vlm: VLM, batch: Batch) -> AnswerScores:
    """The same, everything read anew: `vlm.answer(batch)`, on the CPU.

    Raises:
        BadInput: A sample has no answer.
        NotFinite: The logits of an answer are not finite.
    """
    found = vlm.answer(batch)
    rows, real = row_index(batch.rows("answer"))
    assert found.next_tokens is not None  # `answer` gives them
    guesses = found.next_tokens.gather(1, rows).masked_fill(~real, -1)
    return AnswerScores(found.correct.cpu(), found.logprob.cpu(), guesses=guesses.cpu())


@torch.no_grad()
def _again(kept: ResidualCache, first: int, first_layer: int = 0) -> AnswerScores:
    """The rows from `first` on, behind the keys and values of those before, from a layer on."""
    cache, last = DynamicCache(), len(kept.layers) - 1
    _check_layer(first_layer, len(kept.layers))
    stream = kept.resid_pre
    for number, (block, layer) in enumerate(zip(kept.blocks, kept.layers, strict=True)):
        if number < first_layer:  # nothing has changed yet: its keys are not asked for
            cache.update(layer.keys[:, :0].transpose(1, 2), layer.values[:, :0].transpose(1, 2), number)
            if number == first_layer - 1:
                stream = _leave(block, layer, layer.resid_mid, first)
            continue
        cache.update(layer.keys.transpose(1, 2), layer.values.transpose(1, 2), number)
        stream = add_attention(block, stream, {**layer.arguments, "past_key_values": cache})
        if number < last:
            stream = _leave(block, layer, stream, first)
    sequence, rows = (value.to(stream.device) for value in (kept.sequence, kept.rows))
    return scores_from_resid(kept, stream[sequence[:, None], rows - first][None])[0]


def _leave(block: Block, layer: LayerState, resid_mid: Tensor, first: int) -> Tensor:
    """The stream after a layer, at the rows from `first` on, whose stream within it is given."""
    stream = add_mlp(block, resid_mid)
    return stream if layer.between is None else stream + layer.between[:, first:]


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
        resid_mid=layer.resid_mid[:, first:].clone(),
        z=layer.z[:, :0].clone(),
        keys=before(layer.keys),
        values=before(layer.values),
        arguments={**others, "attention_mask": mask[:, :, first:]},
    )
