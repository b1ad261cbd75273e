"""Measure, ablate and accelerate are programs of *one* registered attention function.

transformers lets a library register an attention function by name. Here that name is `"core"`: while a program runs,
the language part of a model calls `core_attention` in every layer, which passes the call through the stack of active
programs down to transformers' own `sdpa_attention_forward`. Nothing is forked or patched.

A program is middleware. It gets the call and the function below it, and returns the heads' outputs:

    def silence(call, inner):              # every head of layer 3 says nothing
        out = inner(call)                  # [batch, query, head, dim], before o_proj mixes the heads
        return out * 0 if call.layer == 3 else out

    with running(model, silence):
        model(**inputs)

`with` statements nest as they read: the outer program wraps the inner one, so what an outer program changes in the
call (its mask, say) is what an inner one sees.

Source: transformers, "Attention interface", https://huggingface.co/docs/transformers/attention_interface
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from corelib.core.errors import BadInput, UnsupportedArchitecture

NAME = "core"  # neutral on purpose: transformers reads meaning into names such as "flash…" and "sdpa…"
ALTERS_SOFTMAX = ("softcap", "s_aux", "position_bias")  # arguments that would make softmax(QKᵀ) a wrong reading


@dataclass(frozen=True)
class AttentionCall:
    """One layer's attention, as the model asked for it: rotary embedding, q/k norm and cache are already applied."""

    module: nn.Module
    query: Float[Tensor, "batch head query dim"]
    key: Float[Tensor, "batch kv_head key dim"]
    value: Float[Tensor, "batch kv_head key dim"]
    mask: Bool[Tensor, "#batch #head query key"] | None  # True may be seen; None is plain causal
    scaling: float
    offset: int  # where on the key axis the first query row stands: 0, or the length of the cache
    dropout: float = 0.0
    kwargs: dict = field(default_factory=dict)

    @property
    def layer(self) -> int:
        return self.module.layer_idx

    @property
    def num_heads(self) -> int:
        return self.query.shape[1]

    @property
    def num_kv_heads(self) -> int:
        return self.key.shape[1]

    @property
    def causal(self) -> bool:
        given = self.kwargs.get("is_causal")
        return getattr(self.module, "is_causal", True) if given is None else given


Inner = Callable[[AttentionCall], Float[Tensor, "batch query head dim"]]
Program = Callable[[AttentionCall, Inner], Float[Tensor, "batch query head dim"]]

_active: WeakKeyDictionary[nn.Module, tuple[Program, ...]] = WeakKeyDictionary()


def dense_attention(call: AttentionCall) -> Float[Tensor, "batch query head dim"]:
    """The innermost function: transformers' own attention, unchanged."""
    arguments = (call.module, call.query, call.key, call.value, call.mask)
    return sdpa_attention_forward(*arguments, dropout=call.dropout, scaling=call.scaling, **call.kwargs)[0]


def core_attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **kwargs):
    """What transformers calls under the name `"core"`: the stack of active programs, then `dense`."""
    for name in ALTERS_SOFTMAX:
        if kwargs.get(name) is not None:
            raise UnsupportedArchitecture(f"{type(module).__name__} alters its softmax by {name!r}: not supported")
    queries, keys = query.shape[2], key.shape[2]
    # No mask and several rows means causal from the first key on, also before an empty static cache (keys > queries).
    offset = 0 if attention_mask is None and queries > 1 else keys - queries
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    call = AttentionCall(module, query, key, value, attention_mask, scaling, offset, dropout, kwargs)
    return _run(call, _active.get(module, ())), None


def _run(call: AttentionCall, programs: tuple[Program, ...]) -> Float[Tensor, "batch query head dim"]:
    if not programs:
        return dense_attention(call)
    first, *rest = programs
    out = first(call, lambda below: _run(below, tuple(rest)))
    expected = (call.query.shape[0], call.query.shape[2], call.num_heads, call.value.shape[-1])
    if not isinstance(out, Tensor) or out.shape != expected:
        given = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise BadInput(f"an attention program returned {given}: return [batch, query, head, dim] {expected}")
    return out


AttentionInterface.register(NAME, core_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)  # without it the mask is None and padding is silently seen


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """The self-attention modules of the language decoder, in layer order; vision towers and connectors are left out."""
    found = [module for module in model.modules() if _is_decoder_attention(module)]
    layers = [module.layer_idx for module in found]
    if not found or len(set(layers)) != len(layers):
        problem = "no decoder" if not found else "more than one decoder"
        raise UnsupportedArchitecture(
            f"{type(model).__name__} has {problem} whose attention goes through transformers' AttentionInterface: "
            "give one causal language model, or a vision-language model built on one"
        )
    return sorted(found, key=lambda module: module.layer_idx)


def _is_decoder_attention(module: nn.Module) -> bool:
    causal = isinstance(getattr(module, "layer_idx", None), int) and getattr(module, "is_causal", False)
    files = (sys.modules.get(base.__module__) for base in type(module).__mro__)
    return bool(causal) and any(hasattr(file, "ALL_ATTENTION_FUNCTIONS") for file in files)


@contextmanager
def running(model: nn.Module, program: Program) -> Iterator[None]:
    """Run `program` in every decoder layer of `model`; leaving restores what was there, also after an error."""
    programs = [(module, _active.get(module, ())) for module in attention_modules(model)]
    with attention_implementation(model, NAME):
        try:
            for module, outer in programs:
                _active[module] = (*outer, program)
            yield
        finally:
            for module, outer in programs:
                if outer:
                    _active[module] = outer
                else:
                    _active.pop(module, None)


@contextmanager
def attention_implementation(model: nn.Module, name: str) -> Iterator[None]:
    """The decoder's attention is transformers' function of this name (`eager`, `sdpa`, …); leaving restores the old."""
    configs = list({id(module.config): module.config for module in attention_modules(model)}.values())
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = {"": name}  # "": this config only, not those nested in it
        yield
    finally:
        for config, old in zip(configs, before, strict=True):
            config._attn_implementation = {"": old}


def is_innermost(module: nn.Module, program: Program) -> bool:
    """Is there no program between this one and the model's own attention?"""
    return _active.get(module, ())[-1:] == (program,)


def explicit_mask(
    call: AttentionCall, rows: Int[Tensor, "batch row"] | None = None
) -> Bool[Tensor, "batch mask_head row key"]:
    """Which keys the query rows may see, with "no mask means causal" written out.

    `rows` index the query axis of this call (default: all of it), so a few rows cost O(rows · keys).
    """
    batch, _, queries, _ = call.query.shape
    if call.mask is not None and call.mask.dtype != torch.bool:
        raise BadInput(f"the attention mask is {call.mask.dtype}: give a 2-D attention_mask or a 4-D boolean one")
    if rows is None:
        rows = torch.arange(queries, device=call.query.device).expand(batch, -1)
    if call.mask is not None:
        picked = torch.arange(batch, device=rows.device)[:, None]
        return call.mask.expand(batch, -1, -1, -1)[picked, :, rows].transpose(1, 2)  # [batch, head, row, key]
    keys = torch.arange(call.key.shape[2], device=rows.device)
    seen = keys <= rows[..., None] + call.offset  # [batch, row, key]
    return (seen if call.causal else torch.ones_like(seen))[:, None]


def attention_rows(call: AttentionCall, rows: Int[Tensor, "batch row"]) -> Float[Tensor, "batch head row key"]:
    """`softmax(q_rows Kᵀ · scaling)` in float32 for some query rows: O(rows · keys), beside SDPA, not instead of it.

    Query heads that share a key/value head are folded into its rows, so grouped keys are never repeated.
    A row that sees no key (padding) has attention zero.
    """
    batch, heads, _, dim = call.query.shape
    picked = torch.arange(batch, device=rows.device)[:, None]
    query = call.query[picked, :, rows].transpose(1, 2)  # [batch, head, row, dim]
    seen = explicit_mask(call, rows)
    with torch.autocast(query.device.type, enabled=False):
        folded = (
            query.float().reshape(batch, call.num_kv_heads, -1, dim) * call.scaling
        )  # [batch, kv_head, group·row, dim]
        scores = (folded @ call.key.float().mT).reshape(batch, heads, rows.shape[1], -1)
        attention = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return attention.masked_fill(~seen.any(-1, keepdim=True), 0.0)
