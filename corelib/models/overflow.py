"""Where a pass overflowed: what is asked once logits are not finite, and by a second pass.

float16 ends at 65,504. A checkpoint that was trained in bfloat16 may write larger numbers into its stream; from there
on all is infinite or not a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from corelib.attention.interface import attention_modules
from corelib.core.errors import NotFinite
from corelib.models.answers import INSTEAD


def overflow_error(model: nn.Module, inputs: dict[str, Tensor]) -> NotFinite:
    """The error to raise about a pass whose logits are not finite: it names the place and offers another dtype."""
    place = first_overflow(model, inputs)
    where = f"; what {place} computes is the first that is not" if place else ""
    return NotFinite(f"the logits of an answer are not finite{where}: {INSTEAD}")


@torch.no_grad()
def first_overflow(model: nn.Module, inputs: dict[str, Tensor]) -> str | None:
    """The first module, in the order of a forward pass, whose output is infinite or not a number at a token that is no
    padding: `layer 3 (mlp.down_proj)` of the decoder, `model.visual.blocks.0.mlp` elsewhere; None if there is none.

    Programs that are active run in this pass, too.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> first_overflow(vlm.model, vlm.encode(task("scenes").samples("test", 0, 1)).inputs) is None
    True
    """
    found: list[str] = []
    real = inputs["attention_mask"].bool()

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Any, ...], out: object) -> None:
            said = out[0] if isinstance(out, tuple) and out else out
            if found or not isinstance(said, Tensor) or not said.is_floating_point():
                return
            said = said[real.to(said.device)] if said.shape[:2] == real.shape else said
            if not said.isfinite().all():
                found.append(name)

        return hook

    leaves = [(name, part) for name, part in model.named_modules() if name and not any(part.children())]
    handles = [part.register_forward_hook(look(name)) for name, part in leaves]
    try:
        model(**inputs, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return _called(model, found[0]) if found else None


def _called(model: nn.Module, name: str) -> str:
    """A part of a decoder layer by the number of its layer, any other by its whole name."""
    names = {id(part): whole for whole, part in model.named_modules()}
    for number, module in enumerate(attention_modules(model)):
        layer = names[id(module)].rpartition(".")[0] + "."
        if name.startswith(layer):
            return f"layer {number} ({name.removeprefix(layer)})"
    return name
