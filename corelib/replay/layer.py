"""One decoder layer, taken apart: its attention and its feed-forward part, both added to the residual stream.

    resid_mid = resid_pre + o_proj(z),  z = attention(input_layernorm(resid_pre))
    resid_post = resid_mid + mlp(post_attention_layernorm(resid_mid))

The words are those of TransformerLens, https://transformerlensorg.github.io/TransformerLens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from corelib.models.devices import execution_device

Block = Any  # a decoder layer of transformers: an nn.Module whose parts `recorder.decoder` has checked


@dataclass(frozen=True)
class LayerState:
    """What one decoder layer computed; its tensors are on the layer's own device, in the model's dtype."""

    resid_mid: Float[Tensor, "sequence position width"]  # the stream after the attention, before the feed-forward part
    z: Float[Tensor, "sequence position head dim"]  # of the heads, before o_proj
    keys: Float[Tensor, "sequence position kv_head dim"]
    values: Float[Tensor, "sequence position kv_head dim"]
    arguments: dict[str, Any]  # what else the attention is given: mask, rotations, …
    between: Float[Tensor, "sequence position width"] | None = None  # what is added before the next layer, or the norm


def add_mlp(block: Block, resid_mid: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
    """A layer's feed-forward part, added to the stream: `x + mlp(post_attention_layernorm(x))`, on the layer's
    device."""
    stream = resid_mid.to(execution_device(block))
    added: Tensor = block.mlp(block.post_attention_layernorm(stream))
    return stream + added


def add_attention(
    block: Block, resid_pre: Float[Tensor, "sequence position width"], arguments: dict[str, Any]
) -> Float[Tensor, "sequence position width"]:
    """A layer's attention, added to the stream: `x + self_attn(input_layernorm(x))`, on the layer's device.

    `arguments` are what else the attention is given, as `LayerState` keeps them; they may be of another device.
    """
    device = execution_device(block)
    stream = resid_pre.to(device)
    options = {key: map_tensors(value, lambda one: one.to(device)) for key, value in arguments.items()}
    options["position_embeddings"] = map_tensors(options["position_embeddings"], axes_first)
    added: Tensor = block.self_attn(hidden_states=block.input_layernorm(stream), **options)[0]
    return stream + added


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What an attention is given, with every tensor in it changed, also in tuples and lists.

    >>> import torch
    >>> map_tensors((torch.tensor(1), "causal"), lambda one: one + 1)
    (tensor(2), 'causal')
    """
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(one, change) for one in value)
    return change(value) if isinstance(value, Tensor) else value


def axes_last(value: Tensor) -> Tensor:
    """Rotations, [sequence, position, …]. Some versions of Qwen2.5-VL keep those of time, row and column apart, and
    these three axes first: [axis, sequence, position, dim]."""
    return value.permute(1, 2, 0, 3) if value.ndim == 4 else value


def axes_first(value: Tensor) -> Tensor:
    """The way back, to what the attention asks for."""
    return value.permute(2, 0, 1, 3) if value.ndim == 4 else value
