"""Go on with a forward pass from a layer: what an ablation costs is only what comes after it.

Below the first ablated layer nothing changes, and neither does what the vision tower says. So one plain pass is kept,
layer by layer, and each set of heads starts where its first head is:

    kept = residual_cache(vlm, encoded)
    found = replay_from_layer(kept, [HeadSet("L3H0"), HeadSet("L3H1 L5H2")])     # found.correct: [set, sample]

In the first layer of a set even the attention is known: what its heads wrote is taken away. From there on all layers
run, for many sets in one batch; what a model adds between layers (Qwen's deep stack of visual features) is added again.
In the last layer only the rows that predict the answer go on. The numbers are those of whole passes under `ablate`, but
for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from corelib.attention.intervene import ablate
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.models.answers import AnswerScores
from corelib.replay.residual_cache import ResidualCache, add_attention, add_mlp, map_tensors, scores_from_resid


@torch.no_grad()
def replay_from_layer(kept: ResidualCache, sets: Sequence[HeadSet], *, batch_size: int | None = None) -> AnswerScores:
    """How the traced samples are answered with the outputs of each set of heads at zero; the empty set is the plain
    model. About `batch` sequences run at once: by default few on a CPU, where they should fit its cache, and many
    elsewhere."""
    if not sets:
        raise BadInput("no set of heads: give at least one (the empty set is the plain model)")
    for one in sets:
        one.check(kept.vlm.num_layers, kept.vlm.num_heads)
    samples = len(kept.rows)
    if batch_size is None:
        batch_size = 32 if kept.resid_pre.device.type == "cpu" else 256
    at_once = max(1, batch_size // len(kept.resid_mid[0]))
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
    """The outcomes of sets whose first ablated layer is `start`; the sequences of one set stand together."""
    last, count, sequences = len(kept.layers) - 1, len(sets), len(kept.resid_mid[0])
    stream = kept.resid_mid[min(start, last)].repeat(count, 1, 1)
    if start <= last:
        stream = stream - _written(kept, start, sets)
    everyone = [one for one in sets for _ in range(sequences)]

    def repeated(value: Tensor) -> Tensor:  # what has a row for each sequence gets one for each copy
        own = value.ndim and value.shape[0] == sequences > 1
        return value.repeat(count, *(1 for _ in value.shape[1:])) if own else value

    with ablate(kept.vlm.model, everyone):
        for number in range(start, last):
            stream = add_mlp(kept.layers[number], stream)
            if kept.between[number] is not None:
                stream = stream + kept.between[number].repeat(count, 1, 1)
            options = {key: map_tensors(value, repeated) for key, value in kept.arguments[number + 1].items()}
            stream = add_attention(kept.layers[number + 1], stream, options)
    stream = stream.unflatten(0, (count, sequences))[:, kept.sequence[:, None], kept.rows]  # [set, sample, row, width]
    return scores_from_resid(kept, stream)


def _written(kept: ResidualCache, number: int, sets: list[HeadSet]) -> Float[Tensor, "sequence position width"]:
    """What each set's heads of one layer wrote into the residual stream of each sample."""
    matrix = kept.layers[number].self_attn.o_proj.weight.unflatten(1, (kept.vlm.num_heads, -1))  # [width, head, dim]
    ablated = torch.zeros(len(sets), kept.vlm.num_heads, dtype=matrix.dtype, device=matrix.device)
    for row, one in enumerate(sets):
        ablated[row, list(one.by_layer()[number])] = 1
    some = ablated.any(0).nonzero()[:, 0]
    each = torch.einsum("bphd,whd->hbpw", kept.z[number][:, :, some], matrix[:, some])
    return torch.einsum("sh,hbpw->sbpw", ablated[:, some], each).flatten(0, 1)
