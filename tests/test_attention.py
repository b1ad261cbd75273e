"""The one registered function: the model computes what it always did, and is left as it was found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import FAMILIES, HEAD_DIM, HEADS, KV_HEADS, LAYERS, tiny_inputs, tiny_model
from torch import nn
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from corelib.attention.interface import (
    AttentionCall,
    attention_modules,
    attention_rows,
    dense_attention,
    explicit_mask,
    running,
)
from corelib.core.errors import BadInput, CorelibError, UnsupportedArchitecture


def pass_through(call, inner):
    return inner(call)


def state(model):
    """Everything that `running` may touch: every configuration, and the weights."""
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    configs |= {id(config): config for config in (model.config.get_text_config(),)}
    return {key: repr(config.to_dict()) + str(config._attn_implementation) for key, config in configs.items()}


def a_call(mask=None, queries=5, keys=5, causal=True, **kwargs) -> AttentionCall:
    module = nn.Module()
    module.layer_idx, module.num_key_value_groups, module.is_causal = 0, HEADS // KV_HEADS, causal
    make = torch.Generator().manual_seed(0)
    query = torch.randn(2, HEADS, queries, HEAD_DIM, generator=make)
    key, value = torch.randn(2, 2, KV_HEADS, keys, HEAD_DIM, generator=make)
    offset = 0 if mask is None and queries > 1 else keys - queries
    return AttentionCall(module, query, key, value, mask, HEAD_DIM**-0.5, offset, kwargs=kwargs)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_running_changes_nothing_and_restores_everything(family):
    model, inputs = tiny_model(family), tiny_inputs(family)
    before, seen = state(model), []
    expected = model(**inputs).logits

    def watch(call, inner):
        seen.append((call.layer, call.num_heads, call.num_kv_heads, call.offset))
        return inner(call)

    with running(model, watch):
        assert torch.equal(model(**inputs).logits, expected)
    assert seen == [(layer, HEADS, KV_HEADS, 0) for layer in range(LAYERS)]
    assert state(model) == before
    with pytest.raises(RuntimeError, match="on purpose"), running(model, watch):
        raise RuntimeError("on purpose")
    assert state(model) == before
    assert torch.equal(model(**inputs).logits, expected)
    assert len(seen) == LAYERS  # nothing is called once the block is left


@pytest.mark.parametrize("previous", ["eager", "sdpa"])
def test_previous_implementation_comes_back(previous):
    model = tiny_model("qwen3_vl")
    model.set_attn_implementation(previous)
    before = state(model)
    with running(model, pass_through):
        assert model.config.text_config._attn_implementation == "core"
        assert model.config.vision_config._attn_implementation == previous
        with running(model, pass_through):
            assert model.config.text_config._attn_implementation == "core"
        assert model.config.text_config._attn_implementation == "core"
    assert state(model) == before


@torch.no_grad()
def test_programs_nest_as_they_read():
    model, inputs, order = tiny_model("smolvlm"), tiny_inputs("smolvlm"), []

    def named(name):
        def program(call, inner):
            order.append(f"{name} in")
            out = inner(call)
            order.append(f"{name} out")
            return out

        return program

    with running(model, named("outer")):
        with running(model, named("inner")):
            model(**inputs)
        assert order[:4] == ["outer in", "inner in", "inner out", "outer out"]
        order.clear()
        model(**inputs)
        assert order == ["outer in", "outer out"] * LAYERS  # the inner one is gone


@torch.no_grad()
def test_what_an_outer_program_changes_an_inner_one_sees():
    model, inputs, masks = tiny_model("internvl"), tiny_inputs("internvl"), []

    def hide(call, inner):
        return inner(replace(call, mask=explicit_mask(call) & (torch.arange(call.key.shape[2]) != 4)))

    def watch(call, inner):
        masks.append(call.mask)
        return inner(call)

    with running(model, hide), running(model, watch):
        model(**inputs)
    assert not masks[0][..., 4].any()


@torch.no_grad()
def test_two_models_at_once():
    first, second = tiny_model("qwen3_vl"), tiny_model("smolvlm")
    inputs = tiny_inputs("smolvlm")
    expected = second(**inputs).logits
    with running(first, lambda call, inner: inner(call) * 0):
        assert torch.equal(second(**inputs).logits, expected)
        with running(second, pass_through):
            assert torch.equal(second(**inputs).logits, expected)


@pytest.mark.parametrize("head", range(HEADS))
@torch.no_grad()
def test_zeroing_a_head_is_a_pre_hook_on_o_proj(head):
    model, inputs = tiny_model("qwen2_5_vl"), tiny_inputs("qwen2_5_vl")

    def program(call, inner):
        out = inner(call).clone()
        if call.layer == 1:
            out[:, :, head] = 0
        return out

    def hook(module, arguments):
        hidden = arguments[0].clone()
        hidden[..., head * HEAD_DIM : (head + 1) * HEAD_DIM] = 0
        return (hidden,)

    with running(model, program):
        edited = model(**inputs).logits
    handle = attention_modules(model)[1].o_proj.register_forward_pre_hook(hook)
    expected = model(**inputs).logits
    handle.remove()
    assert torch.equal(edited, expected)
    assert not torch.equal(edited, model(**inputs).logits)


@pytest.mark.parametrize(("queries", "keys", "causal"), [(5, 5, True), (1, 5, True), (5, 5, False), (3, 5, True)])
def test_no_mask_means_causal(queries, keys, causal):
    """The written-out mask gives what transformers computes without one (3 of 5: an empty static cache)."""
    call = a_call(queries=queries, keys=keys, causal=causal)
    torch.testing.assert_close(
        dense_attention(replace(call, mask=explicit_mask(call))), dense_attention(call), atol=1e-6, rtol=0
    )


def test_rows_attention_by_hand():
    call = a_call()
    attention = attention_rows(call, torch.tensor([[0, 4], [2, 2]]))
    torch.testing.assert_close(attention[0, :, 0], torch.tensor([1.0, 0, 0, 0, 0]).expand(HEADS, -1))
    expected = (call.key[1, 1, :3] @ call.query[1, 5, 2] * HEAD_DIM**-0.5).softmax(-1)  # head 5 reads kv head 1
    torch.testing.assert_close(attention[1, 5, 0, :3], expected)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, HEADS, 2))


def test_rows_attention_takes_a_mask_per_head_and_rows_that_see_nothing():
    mask = torch.ones(2, HEADS, 5, 5, dtype=torch.bool).tril()
    mask[0, 3, 4] = False
    attention = attention_rows(a_call(mask), torch.tensor([[4], [4]]))
    assert attention[0, 3].abs().sum() == 0
    assert attention.sum() == pytest.approx(2 * HEADS - 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_reads_in_float32(dtype):
    call = a_call()
    half = replace(call, query=call.query.to(dtype), key=call.key.to(dtype), value=call.value.to(dtype))
    rows = torch.tensor([[4], [3]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention = attention_rows(half, rows)
    assert attention.dtype == torch.float32
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, HEADS, 1))
    torch.testing.assert_close(attention, attention_rows(call, rows), atol=2e-2, rtol=0)


def test_a_program_that_forgets_to_return_is_told_so():
    model = tiny_model("smolvlm")
    with pytest.raises(BadInput, match="returned NoneType"), running(model, lambda call, inner: None):
        model(**tiny_inputs("smolvlm"))
    with pytest.raises(BadInput, match=r"return \[batch, query, head, dim\]"):
        with running(model, lambda call, inner: inner(call).transpose(1, 2)):
            model(**tiny_inputs("smolvlm"))
    assert model.config.text_config._attn_implementation == "sdpa"


def test_unsupported_models_are_refused():
    with pytest.raises(UnsupportedArchitecture, match="Linear has no decoder"):
        attention_modules(nn.Linear(2, 2))
    with pytest.raises(UnsupportedArchitecture, match="more than one decoder"):
        attention_modules(nn.ModuleList([tiny_model("smolvlm"), tiny_model("smolvlm")]))
    with pytest.raises(UnsupportedArchitecture, match="no decoder"):
        attention_modules(tiny_model("qwen3_vl").model.visual)


def test_masks_and_arguments_that_would_be_misread_are_refused():
    with pytest.raises(BadInput, match="boolean"):
        explicit_mask(a_call(torch.zeros(2, 1, 5, 5)))
    call = a_call()
    with pytest.raises(CorelibError, match="softcap"):
        AttentionInterface()["core"](call.module, call.query, call.key, call.value, None, softcap=30.0)


@torch.no_grad()
def test_a_plain_language_model_with_15_heads():
    torch.manual_seed(0)
    sizes = {"hidden_size": 60, "num_attention_heads": 15, "num_key_value_heads": 5, "head_dim": 4}
    config = LlamaConfig(vocab_size=32, intermediate_size=32, num_hidden_layers=1, **sizes)
    model, ids = LlamaForCausalLM(config).eval(), torch.arange(7)[None]
    expected = model(ids).logits
    with running(model, pass_through):
        assert model.config._attn_implementation == "core"
        assert torch.equal(model(ids).logits, expected)
