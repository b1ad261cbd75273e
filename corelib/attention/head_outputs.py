"""What heads put out, before `o_proj` mixes them: recorded, averaged by kind of position, exchanged between samples.

An ablated head can say nothing (zero), what it says on average, or what it would say about another picture. The last
two keep what the rest of the model is used to, and take away only what this sample put in:

    with head_outputs(model) as found:
        model(**encoded.inputs)
    with ablate(model, heads, instead=exchanged(found)):
        model(**encoded.inputs)

    kinds = encoded.kinds                                     # a head's mean differs between kinds of positions
    with ablate(model, heads, instead=spread(mean_outputs([(found, kinds)], len(KINDS)), kinds)):
        model(**encoded.inputs)

Source: mean and resample ablation as in Chan et al. (2022), "Causal scrubbing"; Wang et al. (2022), arXiv:2211.00593.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from corelib.attention.interface import AttentionCall, Inner, running
from corelib.core.errors import BadInput

HeadOutputs = dict[int, Float[Tensor, "batch position head dim"]]  # by layer


@contextmanager
def head_outputs(model: nn.Module, layers: Iterable[int] | None = None) -> Iterator[HeadOutputs]:
    """The outputs of all heads of `layers` (default: all), filled in by the next forward pass over whole sequences."""
    wanted = None if layers is None else set(layers)
    found: HeadOutputs = {}

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        out = inner(call)
        if wanted is None or call.layer in wanted:
            found[call.layer] = out.detach().clone()
        return out

    with running(model, program):
        yield found


def mean_outputs(
    recorded: Iterable[tuple[HeadOutputs, Int[Tensor, "batch position"]]], kinds: int
) -> dict[int, Float[Tensor, "kind head dim"]]:
    """The mean output of every head at each of so many `kinds` of positions, over one or more recorded batches, each
    with the kind of its positions; zero where a kind does not occur."""
    sums: dict[int, Tensor] = {}
    counts = torch.zeros(kinds, dtype=torch.double)
    for outputs, places in recorded:
        member = torch.nn.functional.one_hot(places.cpu(), kinds).double()  # [batch, position, kind]
        counts += member.sum((0, 1))
        for layer, out in outputs.items():
            part = torch.einsum("bpk,bphd->khd", member, out.double().cpu())
            sums[layer] = sums.get(layer, 0) + part
    if not sums:
        raise BadInput("nothing was recorded: run the model inside `head_outputs` first")
    return {layer: (total / counts.clamp(min=1)[:, None, None]).float() for layer, total in sums.items()}


def expand_means(
    means: Mapping[int, Float[Tensor, "kind head dim"]], kinds: Int[Tensor, "batch position"]
) -> HeadOutputs:
    """Means by kind of position, laid out over a batch: what `ablate` takes as `replacement`."""
    return {layer: mean[kinds.cpu()] for layer, mean in means.items()}


def resampled(outputs: HeadOutputs, order: Sequence[int] | None = None) -> HeadOutputs:
    """The outputs of another sample of the batch: of the next one, or of `order[i]` for sample i. Sequences end at the
    same place, so positions are counted from the end."""
    batch = next(iter(outputs.values())).shape[0]
    order = [*range(1, batch), 0] if order is None else list(order)
    if sorted(order) != list(range(batch)) or any(number == place for place, number in enumerate(order)):
        raise BadInput(f"order {order}: give every sample of the batch of {batch} once, and none in its own place")
    return {layer: out[order] for layer, out in outputs.items()}
