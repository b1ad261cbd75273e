"""Go on with a forward pass from a layer: what an ablation costs is only what comes after it.

Below the first ablated layer nothing changes, and neither does what the vision tower says. So one plain pass is kept,
layer by layer, and each set of heads starts where its first head is:

    kept = residual_cache(vlm, batch)
    found = replay_from_layer(kept, [HeadSet("L3H0"), HeadSet("L3H1 L5H2")])     # found.correct: [set, sample]

In the first layer of a set even the attention is known: what its heads wrote is taken away, as `o_proj` itself says.
From there on all layers run, for many sets in one batch; what a model adds between layers (Qwen's deep stack of visual
features) is added again. In the last layer only the rows that predict the answer go on. The numbers are those of whole
passes under `ablate`, but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from corelib.attention.intervene import ablate
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.core.memory import fitting_batch
from corelib.models.answers import AnswerScores
from corelib.replay.layer import add_attention, add_mlp, map_tensors
from corelib.replay.residual_cache import ResidualCache, scores_from_resid


@torch.no_grad()
def replay_from_layer(kept: ResidualCache, sets: Sequence[HeadSet], *, batch_size: int | None = None) -> AnswerScores:
    """How the samples of a kept pass are answered with the outputs of each set of heads at zero.

    Args:
        kept: A plain pass (`residual_cache`), perhaps with shared prefixes (`share_prefix`).
        sets: Sets of heads; the empty set is the plain model.
        batch_size: About how many sequences run at once. By default 32 on a CPU, where they should fit its cache;
            elsewhere as many as fit into half of the free memory, 256 at most.

    Returns:
        `AnswerScores`, [set, sample], on the CPU; log-probabilities in float32.

    Raises:
        BadInput: There is no set, or one of them has a head that the model lacks.
        NotFinite: The logits of an answer are not finite under one of the sets.

    >>> from corelib import load, task
    >>> from corelib.replay.residual_cache import residual_cache
    >>> vlm = load("mini-s")
    >>> kept = residual_cache(vlm, vlm.encode(task("scenes").samples("test", 0, 2)))
    >>> replay_from_layer(kept, [HeadSet(), HeadSet("L3H0")]).correct.shape
    torch.Size([2, 2])
    """
    if not sets:
        raise BadInput("no set of heads: give at least one (the empty set is the plain model)")
    for one in sets:
        one.check(kept.vlm.num_layers, kept.vlm.num_heads)
    samples = len(kept.rows)
    if batch_size is None:
        batch_size = fitting_batch(kept.vlm.model, kept.resid_pre.shape[1], kept.resid_pre.device)
    at_once = max(1, batch_size // len(kept.resid_pre))
    starts = [min((head.layer for head in one), default=len(kept.layers)) for one in sets]
    correct, logprob = torch.zeros(len(sets), samples, dtype=torch.bool), torch.zeros(len(sets), samples)
    for start in sorted(set(starts)):
        mine = [number for number, layer in enumerate(starts) if layer == start]
        for k in range(0, len(mine), at_once):
            part = mine[k : k + at_once]
            found = _from(kept, start, [sets[number] for number in part])
            correct[part], logprob[part] = found.correct, found.logprob
    return AnswerScores(correct, logprob)


def _from(kept: ResidualCache, start: int, sets: list[HeadSet]) -> AnswerScores:
    """The scores of sets whose first ablated layer is `start`; the sequences of one set stand together."""
    last, count, sequences = len(kept.layers) - 1, len(sets), len(kept.resid_pre)
    stream = kept.layers[min(start, last)].resid_mid.repeat(count, 1, 1)
    if start <= last:
        stream = stream - _written(kept, start, sets)
    everyone = [one for one in sets for _ in range(sequences)]

    def repeated(value: Tensor) -> Tensor:  # what has a row for each sequence gets one for each copy
        own = value.ndim and value.shape[0] == sequences > 1
        return value.repeat(count, *(1 for _ in value.shape[1:])) if own else value

    with ablate(kept.vlm.model, everyone):
        for number in range(start, last):
            stream, between = add_mlp(kept.blocks[number], stream), kept.layers[number].between
            if between is not None:
                stream = stream + between.repeat(count, 1, 1)
            options = {key: map_tensors(value, repeated) for key, value in kept.layers[number + 1].arguments.items()}
            stream = add_attention(kept.blocks[number + 1], stream, options)
    sequence, rows = (value.to(stream.device) for value in (kept.sequence, kept.rows))
    stream = stream.unflatten(0, (count, sequences))[:, sequence[:, None], rows]  # [set, sample, row, width]
    return scores_from_resid(kept, stream)


def _written(kept: ResidualCache, number: int, sets: list[HeadSet]) -> Float[Tensor, "sequence position width"]:
    """What each set's heads of one layer wrote: `o_proj(z) − o_proj(z with these heads at zero)`.

    The module is asked, not its weight, so adapters and quantised weights count. Where it rounds what it is given
    (8-bit matrices do), this difference is what `ablate` makes; `o_proj` of these heads alone is rounded otherwise.
    """
    z, o_proj = kept.layers[number].z, kept.blocks[number].self_attn.o_proj
    left = torch.ones(len(sets), 1, 1, kept.vlm.num_heads, 1, dtype=z.dtype, device=z.device)
    for row, one in enumerate(sets):
        left[row, :, :, list(one.by_layer()[number])] = 0
    without: Tensor = o_proj((z * left).flatten(3).flatten(0, 1)).unflatten(0, (len(sets), len(z)))
    whole: Tensor = o_proj(z.flatten(2))
    return (whole - without).flatten(0, 1)
