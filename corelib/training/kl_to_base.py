"""A language model that learns to see should still be able to speak: a pull back to what it would have said.

On passages that the language model made up itself, before its adapters, the loss is

    KL(p ‖ q) = Σ_w p(w) (log p(w) − log q(w)),   mean over tokens, in nats

with p the next-word probabilities without adapters, and q those with them. Text of its own costs nothing to come by,
and covers what it is likely to say. The texts by which the result is judged (`bridge/text_eval.py`) are other texts.

Source: distillation of a model into its changed self is "learning without forgetting", Li & Hoiem, arXiv 1606.09282.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import SmolVLMForConditionalGeneration

from corelib.bridge import adapter
from corelib.core.results import write_whole

LENGTH = 64  # tokens of a passage
POOL = 256  # passages that one process knows


@torch.no_grad()
def passages(
    model: SmolVLMForConditionalGeneration, start: int, seed: int, count: int = POOL
) -> Int[Tensor, "passage token"]:
    """Passages that the language model says without its adapters: sampled word by word at temperature 1, from the
    token `start` (which is left away)."""
    device = next(model.parameters()).device
    made = torch.Generator(device).manual_seed(seed)
    spoken = torch.full((count, 1), start, device=device)
    cache = None
    with adapter.off(model):
        for _ in range(LENGTH):
            out = model(input_ids=spoken[:, -1:], past_key_values=cache, use_cache=True)
            cache, chances = out.past_key_values, out.logits[:, -1].float().softmax(-1)
            spoken = torch.cat([spoken, torch.multinomial(chances, 1, generator=made)], 1)
    return spoken[:, 1:]


def kept_passages(path: Path, make: Callable[[], Int[Tensor, "passage token"]]) -> Int[Tensor, "passage token"]:
    """The passages at `path`; if there are none, those of `make`, which are written there: a run that goes on need not
    wait for them again."""
    if not path.is_file():
        said = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda beside: save_file({"passages": said.contiguous()}, beside))
    return load_file(path)["passages"]


def kl_to_base(model: SmolVLMForConditionalGeneration, text: Int[Tensor, "passage token"]) -> Float[Tensor, ""]:
    """KL from the language model without adapters to that with them, in nats a token."""
    with torch.no_grad(), adapter.off(model):
        before = model(input_ids=text, use_cache=False).logits.float().log_softmax(-1)
    after = model(input_ids=text, use_cache=False).logits.float().log_softmax(-1)
    return kl_div(after, before, log_target=True, reduction="sum") / text.numel()
