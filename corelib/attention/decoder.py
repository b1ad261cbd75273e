"""Finding the language decoder's attention, and refusing attention that is more than one softmax(QKᵀ)V for each head.

A head is read as softmax(q Kᵀ · scaling), and what it puts out goes to the output projection. Whether that is all there
is to it shows in a module's parts: those in `PARTS` were compared with eager attention and with hooks on the output
projection, for some seventy architectures of transformers. Anything else (sinks, λ of differential attention,
relative positions, latent or indexed keys, a norm over all heads) is refused by name.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from corelib.core.errors import BadInput, UnsupportedArchitecture

PARTS = frozenset(
    "q_proj k_proj v_proj qkv_proj query_key_value c_attn Wq Wk Wv "  # queries, keys and values
    "o_proj out_proj dense c_proj "  # the output projection
    "q_norm k_norm q_layernorm k_layernorm query_layernorm key_layernorm qk_norm "  # norms before the softmax
    "gate_proj g_proj gate_bias "  # gates of what a head puts out
    "rotary_emb rotary_fn attn_dropout attention_dropout resid_dropout".split()
)
SUPPORTED = (
    "Qwen3-VL, Qwen2.5-VL, InternVL, LLaVA-OneVision, SmolVLM, Gemma 3, and decoders of the Llama, Qwen, Mistral, "
    "Gemma (not Gemma 2), OLMo, Phi and GPT-2 kind"
)


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """The self-attention modules of the language decoder, in layer order; vision towers and connectors are left out.

    Layers that have none (state-space or linear attention, cross attention) are left out, too: `layer_idx` tells.

    Raises:
        BadInput: `model` is not a module; a `VLM` has it as `vlm.model`.
        UnsupportedArchitecture: it has no decoder, or more than one, or one whose heads are more than a softmax.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **sizes))
    >>> [type(module).__name__ for module in attention_modules(model)]
    ['LlamaAttention', 'LlamaAttention']
    """
    if not isinstance(model, nn.Module):
        inside = " (give its .model)" if isinstance(getattr(model, "model", None), nn.Module) else ""
        raise BadInput(f"the model is {type(model).__name__}: give a torch module, as in record(vlm.model, …){inside}")
    found = [module for module in model.modules() if _is_decoder_attention(module)]
    layers = [layer_of(module) for module in found]
    if not found or len(set(layers)) != len(layers):
        problem = "no decoder" if not found else "more than one decoder"
        raise UnsupportedArchitecture(
            f"{type(model).__name__} has {problem} whose attention goes through transformers' AttentionInterface: "
            "give one causal language model, or a vision-language model built on one"
        )
    for module in found:
        check_supported(module)
    return sorted(found, key=layer_of)


def has_windows(model: nn.Module) -> bool:
    """Do some layers of the language decoder see only a part of what stands before a row, as its configuration says?

    >>> from transformers import MistralConfig, MistralForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
    >>> config = MistralConfig(num_hidden_layers=1, vocab_size=9, sliding_window=4, **sizes)
    >>> has_windows(MistralForCausalLM(config))
    True
    """
    config: Any = attention_modules(model)[0].config
    if kinds := getattr(config, "layer_types", None):
        return any(kind != "full_attention" for kind in kinds)
    return bool(getattr(config, "sliding_window", None))


def layer_of(module: nn.Module) -> int:
    """The number of an attention module's layer, from 0."""
    return int(module.layer_idx)  # type: ignore[arg-type]  # attention modules have it


def check_supported(module: nn.Module) -> None:
    """Refuse an attention module whose heads are more than softmax(QKᵀ)V.

    Raises:
        UnsupportedArchitecture: it has a part that is not in `PARTS`, or caps its scores.
    """
    parts = [name for name, _ in (*module.named_children(), *module.named_parameters(recurse=False))]
    unknown = [name for name in parts if name not in PARTS]
    if getattr(module, "attn_logit_softcapping", None) is not None:
        unknown.append("attn_logit_softcapping")
    if unknown:
        raise UnsupportedArchitecture(
            f"{type(module).__name__} has {', '.join(unknown)}: heads that are more than softmax(QKᵀ)V are not "
            f"supported, or not tested. Supported are {SUPPORTED}"
        )


def _is_decoder_attention(module: nn.Module) -> bool:
    causal = isinstance(getattr(module, "layer_idx", None), int) and getattr(module, "is_causal", False)
    files = (sys.modules.get(base.__module__) for base in type(module).__mro__)
    return bool(causal) and any(hasattr(file, "ALL_ATTENTION_FUNCTIONS") for file in files)
