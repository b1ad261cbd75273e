"""Which layers reach the evidence. A head behind a sliding window that ends before the evidence cannot retrieve it,
and is no control for one that does: it is in no set of top heads, and in no null.

A layer reaches the evidence of a sample if every row that predicts the answer may see all of it. That is read off the
masks that the model itself makes, batch by batch. A layer counts if it reaches the evidence of all samples: then all
heads that count look for the same. The layers that count are the `reach` of a result's `ModelFacts`.

    with watch_reach(vlm.model, batch) as reached:
        vlm.answer(batch)
    torch.stack(reached, 1)                     # [sample, layer], bool
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from corelib.attention.decoder import has_windows
from corelib.attention.interface import AttentionCall, Inner, explicit_mask, running
from corelib.attention.record import row_index
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.tasks import Draw


@contextmanager
def watch_reach(model: nn.Module, batch: Batch) -> Iterator[list[Bool[Tensor, " sample"]]]:
    """Note, in a forward pass over the batch, which samples' evidence each layer reaches: one tensor a layer, in their
    order, on the CPU. The outputs do not change.

    Raises:
        BadInput: The mask is not boolean, and what `running` refuses.
    """
    rows, real = row_index(batch.rows("answer"))
    evidence, reached = batch.evidence, []

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        at, wanted = rows.to(call.query.device), (evidence[:, None] & real[..., None]).to(call.query.device)
        hidden = wanted[:, None] & ~explicit_mask(call, at)
        reached.append(~hidden.flatten(1).any(1).cpu())
        return inner(call)

    with running(model, program):
        yield reached


@torch.no_grad()
def layers_in_reach(vlm: VLM, draw: Draw, batch_size: int | None = None) -> tuple[int, ...] | None:
    """The layers that reach the evidence of all samples of a draw; None if all do. Without a sliding window all do, and
    nothing is run; otherwise this is one forward pass over the samples.

    Raises:
        BadInput: No layer does.

    >>> from corelib import load, task
    >>> layers_in_reach(load("tiny-random:gemma3"), task("scenes").draw("test", samples=2))
    (1, 3)
    """
    if not has_windows(vlm.model):
        return None
    found = []
    for indices in draw.batches(batch_size or vlm.batch_size):
        batch = vlm.encode(draw.take(indices))
        with watch_reach(vlm.model, batch) as reached:
            vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
        found.append(torch.stack(reached, 1))
    return common_reach(torch.cat(found))


def common_reach(reached: Bool[Tensor, "sample layer"]) -> tuple[int, ...] | None:
    """The layers that reach the evidence of all these samples; None if all layers do.

    Raises:
        BadInput: No layer does.

    >>> common_reach(torch.tensor([[True, True], [False, True]]))
    (1,)
    """
    layers = reached.all(0)
    if not layers.any():
        raise BadInput("no layer sees all evidence of every sample: all have sliding windows; give shorter prompts")
    return None if layers.all() else tuple(layers.nonzero().flatten().tolist())


def require_reach(vlm: VLM, draw: Draw, batch_size: int | None = None) -> None:
    """Refuse samples whose evidence some layers do not reach, where heads of all layers are compared.

    Raises:
        BadInput: There are such layers.
    """
    layers = layers_in_reach(vlm, draw, batch_size)
    if layers is not None:
        raise BadInput(
            f"only layers {list(layers)} of {vlm.name} reach the evidence of all samples, and heads of all layers are "
            "compared here: give shorter prompts, or a model without sliding windows"
        )


def within_reach(vlm: VLM, draw: Draw, scores: HeadScores, batch_size: int | None = None) -> HeadScores:
    """The scores, of which only heads count that reach the evidence of the tested samples, too.

    Raises:
        BadInput: No head does.
    """
    layers = layers_in_reach(vlm, draw, batch_size)
    return scores if layers is None else scores.within(layers)
