"""What heads put out, before `o_proj` mixes them: recorded, averaged by kind of position, exchanged between samples.

An ablated head can say nothing (zero), what it says on average, or what it would say about another picture. The last
two keep what the rest of the model is used to, and take away only what this sample put in:

    with head_outputs(model) as found:
        model(**batch.inputs)
    with ablate(model, heads, replacement=resampled(found)):
        model(**batch.inputs)

    kinds = batch.position_kinds                              # a head's mean differs between kinds of positions
    means = mean_outputs([(found, kinds)], len(POSITION_KINDS))
    with ablate(model, heads, replacement=expand_means(means, kinds)):
        model(**batch.inputs)

Source: mean and resample ablation as in Chan et al. (2022), "Causal scrubbing"; Wang et al. (2022), arXiv:2211.00593.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from corelib.attention.interface import AttentionCall, Inner, running
from corelib.core.errors import BadInput

HeadOutputs: TypeAlias = dict[int, Float[Tensor, "batch position head dim"]]  # by layer


@contextmanager
def head_outputs(model: nn.Module, layers: Iterable[int] | None = None) -> Iterator[HeadOutputs]:
    """The outputs z = softmax(q Kᵀ · scaling) V of all heads of `layers` (default: all), by layer: [batch, position,
    head, dim], filled in by the next forward pass over whole sequences; detached, in the model's dtype, on the layer's
    device.

    Raises:
        BadInput: a forward pass goes on from a cache; and what `running` refuses.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **sizes))
    >>> with head_outputs(model) as found:
    ...     _ = model(torch.tensor([[1, 2, 3]]))
    >>> {layer: list(out.shape) for layer, out in found.items()}
    {0: [1, 3, 2, 4], 1: [1, 3, 2, 4]}
    """
    wanted = None if layers is None else set(layers)
    found: HeadOutputs = {}

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        if call.position:
            raise BadInput("head_outputs keeps one pass over whole sequences: give all tokens at once, without a cache")
        out = inner(call)
        if wanted is None or call.layer in wanted:
            found[call.layer] = out.detach().clone()
        return out

    with running(model, program):
        yield found


def mean_outputs(
    recorded: Iterable[tuple[HeadOutputs, Int[Tensor, "batch position"]]], kinds: int
) -> dict[int, Float[Tensor, "kind head dim"]]:
    """The mean output of every head at each of so many `kinds` of positions, Σ z / n over one or more recorded batches,
    each with the kind of its positions; zero where a kind does not occur. Float32 on the CPU, summed in float64.

    Raises:
        BadInput: nothing was recorded.

    >>> z = torch.tensor([1.0, 3.0, 5.0])[None, :, None, None]  # one head, three positions of two kinds
    >>> mean_outputs([({0: z}, torch.tensor([[0, 0, 1]]))], kinds=2)[0].flatten().tolist()
    [2.0, 5.0]
    """
    sums: dict[int, Tensor] = {}
    counts = torch.zeros(kinds, dtype=torch.double)
    for outputs, places in recorded:
        member = torch.nn.functional.one_hot(places.cpu(), kinds).double()  # [batch, position, kind]
        counts += member.sum((0, 1))
        for layer, out in outputs.items():
            part = torch.einsum("bpk,bphd->khd", member, out.double().cpu())
            sums[layer] = sums[layer] + part if layer in sums else part
    if not sums:
        raise BadInput("nothing was recorded: run the model inside `head_outputs` first")
    return {layer: (total / counts.clamp(min=1)[:, None, None]).float() for layer, total in sums.items()}


def expand_means(
    means: Mapping[int, Float[Tensor, "kind head dim"]], kinds: Int[Tensor, "batch position"]
) -> HeadOutputs:
    """Means by kind of position, laid out over a batch, on the CPU: what `ablate` takes as `replacement`.

    >>> expand_means({0: torch.tensor([2.0, 5.0])[:, None, None]}, torch.tensor([[1, 0]]))[0].flatten().tolist()
    [5.0, 2.0]
    """
    return {layer: mean[kinds.cpu()] for layer, mean in means.items()}


def resampled(outputs: HeadOutputs, order: Sequence[int] | None = None) -> HeadOutputs:
    """The outputs of another sample of the batch: of `order[i]` for sample i, by default of the next one. Shape, dtype
    and device stay. Sequences end at the same place, so positions are counted from the end.

    Raises:
        BadInput: nothing was recorded, or `order` does not give every sample once and none in its own place.

    >>> resampled({0: torch.tensor([1.0, 2.0, 3.0])[:, None, None, None]})[0].flatten().tolist()
    [2.0, 3.0, 1.0]
    """
    if not outputs:
        raise BadInput("nothing was recorded: run the model inside `head_outputs` first")
    batch = next(iter(outputs.values())).shape[0]
    order = [*range(1, batch), 0] if order is None else list(order)
    if sorted(order) != list(range(batch)) or any(number == place for place, number in enumerate(order)):
        raise BadInput(f"order {order}: give every sample of the batch of {batch} once, and none in its own place")
    return {layer: out[order] for layer, out in outputs.items()}
