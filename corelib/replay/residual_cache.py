"""One plain forward pass, kept layer by layer: what `replay_from_layer`, `replay_from_question` and `share_prefix` go
on from.

    kept = residual_cache(vlm, batch)
    kept.layers[3].resid_mid                    # the residual stream in layer 3, [sequence, position, width]

A decoder layer is taken apart into its attention and its feed-forward part, both added to the stream:

    resid_mid = resid_pre + o_proj(z),  z = attention(input_layernorm(resid_pre))
    resid_post = resid_mid + mlp(post_attention_layernorm(resid_mid))

That is proved for each layer, in the last positions of each sequence (`recorder.py`); a decoder that does more is
refused. What a model adds between layers (Qwen's deep stack of visual features) is kept, too. The words `resid_pre`,
`resid_mid` and `z` are those of TransformerLens, https://transformerlensorg.github.io/TransformerLens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from corelib.attention.record import row_index
from corelib.models.answers import AnswerScores, score_answers
from corelib.models.batch import Batch
from corelib.models.devices import execution_device
from corelib.models.vlm import VLM
from corelib.replay.layer import Block, LayerState, add_mlp
from corelib.replay.recorder import record_pass


@dataclass(frozen=True)
class ResidualCache:
    """One plain forward pass over a batch, kept layer by layer (`residual_cache` makes it).

    A sequence holds one sample, or, after `share_prefix`, one picture with all samples about it.
    """

    vlm: VLM
    blocks: list[Block]  # the decoder's layers
    norm: nn.Module  # after the last of them
    resid_pre: Float[Tensor, "sequence position width"]  # what came into the first of them
    layers: list[LayerState]
    sequence: Int[Tensor, " sample"]  # that a sample is in
    rows: Int[Tensor, "sample row"]  # its positions that predict the answer
    real: Bool[Tensor, "sample row"]  # which of them are
    targets: Int[Tensor, "sample row"]  # what they should predict


def residual_cache(vlm: VLM, batch: Batch) -> ResidualCache:
    """Run the model once, without gradients, and keep what can be gone on from.

    Args:
        vlm: The model. It may be spread over devices, quantised, or carry adapters.
        batch: Samples encoded with their answers.

    Returns:
        The pass. It takes about `layers · positions · (width + (heads + 2 · kv_heads) · dim)` numbers a sequence.

    Raises:
        UnsupportedArchitecture: A layer does more than add attention and a feed-forward part: run whole passes.
        NotFinite: The pass overflowed.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> kept = residual_cache(vlm, vlm.encode(task("scenes").samples("test", 0, 2)))
    >>> len(kept.layers), kept.layers[0].resid_mid.shape == kept.resid_pre.shape
    (6, True)
    """
    blocks, norm, resid_pre, layers = record_pass(vlm.model, batch.inputs)
    rows, real = row_index(batch.rows("answer"))
    targets = batch.tokens.gather(1, (rows + 1).clamp(max=batch.tokens.shape[1] - 1))
    sequence = torch.arange(len(rows), device=rows.device)
    return ResidualCache(vlm, blocks, norm, resid_pre, layers, sequence, rows, real, targets)


def scores_from_resid(kept: ResidualCache, resid_mid: Float[Tensor, "set sample row width"]) -> AnswerScores:
    """The end of a pass, from the last layer's feed-forward part on, at the rows that predict the answer.

    Returns:
        `AnswerScores`, [set, sample], on the CPU; log-probabilities in float32.

    Raises:
        NotFinite: The logits of an answer are not finite.
    """
    stream, between = add_mlp(kept.blocks[-1], resid_mid), kept.layers[-1].between
    if between is not None:
        stream = stream + between[kept.sequence[:, None].to(between.device), kept.rows.to(between.device)]
    head = kept.vlm.model.get_output_embeddings()
    logits = head(kept.norm(stream.to(execution_device(kept.norm))).to(execution_device(head))).float()
    targets, real = (value.repeat(len(stream), 1).to(logits.device) for value in (kept.targets, kept.real))
    found = score_answers(logits.flatten(0, 1), targets, real)
    correct, logprob = (each.view(len(stream), -1).cpu() for each in (found.correct, found.logprob))
    assert found.guesses is not None  # `score_answers` gives them
    return AnswerScores(correct, logprob, guesses=found.guesses.view(len(stream), *kept.targets.shape).cpu())
