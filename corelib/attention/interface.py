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
call (its mask, say) is what an inner one sees. They are left in the order in which they nest, and one thread at a time
runs programs on a model; anything else is refused, and the model comes back as it was.

Source: transformers, "Attention interface", https://huggingface.co/docs/transformers/attention_interface
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from corelib.attention.call import AttentionCall, Inner, Program, attention_rows, explicit_mask
from corelib.attention.decoder import attention_modules
from corelib.attention.positions import take_place
from corelib.attention.stack import Entry, active_programs, asks_for_attentions, entered, refuse_attentions
from corelib.core.errors import BadInput, UnsupportedArchitecture

__all__ = [
    "NAME",
    "AttentionCall",
    "Inner",
    "Program",
    "attention_implementation",
    "attention_modules",
    "attention_rows",
    "core_attention",
    "dense_attention",
    "explicit_mask",
    "is_innermost",
    "running",
]

NAME = "core"  # neutral on purpose: transformers reads meaning into names such as "flash…" and "sdpa…"
ALTERS_SOFTMAX = ("softcap", "s_aux", "position_bias")  # arguments that would make softmax(QKᵀ) a wrong reading


def dense_attention(call: AttentionCall) -> Float[Tensor, "batch query head dim"]:
    """The innermost function: transformers' own attention, softmax(QKᵀ · scaling)V, unchanged.

    The result has the model's dtype and lies on the layer's device.
    """
    arguments = (call.module, call.query, call.key, call.value, call.mask)
    out: Tensor = sdpa_attention_forward(*arguments, dropout=call.dropout, scaling=call.scaling, **call.kwargs)[0]
    return out


def core_attention(
    module: nn.Module,
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch kv_head key dim"],
    value: Float[Tensor, "batch kv_head key value_dim"],
    attention_mask: Bool[Tensor, "#batch #head query key"] | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch query head value_dim"], None]:
    """What transformers calls under the name `"core"`: the stack of active programs, then `dense_attention`.

    Empty slots of a static cache are cut off before programs see the keys.

    Raises:
        UnsupportedArchitecture: the softmax is altered (softcap, sinks, position bias), or called more than once.
        BadInput: attention weights are asked for, or another thread runs the programs of this model.
    """
    for name in ALTERS_SOFTMAX:
        if kwargs.get(name) is not None:
            raise UnsupportedArchitecture(f"{type(module).__name__} alters its softmax by {name!r}: not supported")
    programs = active_programs(module)
    if programs:
        refuse_attentions(kwargs.get("output_attentions") or asks_for_attentions(module))
    queries, keys = query.shape[2], key.shape[2]
    offset, first_key = take_place(module, queries, keys, masked=attention_mask is not None)
    if (end := offset + queries) < keys and (attention_mask is not None or queries > 1):
        key, value = key[:, :, :end], value[:, :, :end]
        attention_mask = None if attention_mask is None else attention_mask[..., :end]
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    where: dict[str, Any] = {"first_key": first_key, "own_mask": attention_mask}
    call = AttentionCall(module, query, key, value, attention_mask, scaling, offset, dropout, kwargs, **where)
    return _run(call, programs), None


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


@contextmanager
def running(model: nn.Module, program: Program) -> Iterator[None]:
    """Run `program` in every decoder layer of `model`; leaving restores what was there, also after an error.

    Raises:
        BadInput: another thread runs programs on this model, contexts are left in another order than they were
            entered, or the model computes its layers again in `backward` (gradient checkpointing in training).
        UnsupportedArchitecture: the heads of this model are more than softmax(QKᵀ)V.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model, layers = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **sizes)), []
    >>> def note(call, inner):
    ...     layers.append(call.layer)
    ...     return inner(call)
    >>> with running(model, note):
    ...     _ = model(model.dummy_inputs["input_ids"] % 9)
    >>> layers
    [0, 1]
    """
    if not callable(program):
        raise BadInput(f"the program is {program!r:.60}: give a function of (call, inner)")
    with entered(model, Entry(NAME, program)):
        yield


@contextmanager
def attention_implementation(model: nn.Module, name: str) -> Iterator[None]:
    """The decoder's attention is transformers' function of this name (`eager`, `sdpa`, …); leaving restores the old.

    Raises:
        BadInput: as for `running`.
    """
    with entered(model, Entry(name)):
        yield


def is_innermost(module: nn.Module, program: Program) -> bool:
    """Is there no program between this one and the model's own attention?"""
    return active_programs(module)[-1:] == (program,)
