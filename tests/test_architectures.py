"""Decoders of many kinds: what is accepted is compared with eager attention and with hooks; the rest is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from corelib.attention.decoder import attention_modules, check_supported, layer_of
from corelib.attention.intervene import ablate
from corelib.attention.record import record
from corelib.core.errors import BadInput, CorelibError, UnsupportedArchitecture
from corelib.core.heads import HeadSet
from corelib.sparse import Window, sparsify

HEADS = 6
SIZES = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
# One for each set of parts that an attention module may have.
ACCEPTED = {
    "llama": "o_proj",
    "qwen2": "o_proj",
    "qwen3": "o_proj",
    "qwen3_moe": "o_proj",
    "mistral": "o_proj",
    "gemma": "o_proj",
    "gemma3_text": "o_proj",
    "olmo2": "o_proj",
    "phi": "dense",
    "phi3": "o_proj",
    "gpt2": "c_proj",
    "gpt_neox": "dense",
    "gpt_bigcode": "c_proj",
    "stablelm": "o_proj",
    "persimmon": "dense",
    "opt": "out_proj",
    "lfm2": "out_proj",
    "hunyuan_v1_dense": "o_proj",
    "llama4_text": "o_proj",
    "afmoe": "o_proj",
    "moshi": "o_proj",
    "ctrl": "dense",
}
REFUSED = {
    "diffllama": "lambda_q1",
    "gemma2": "attn_logit_softcapping",
    "gpt_oss": "sinks",
    "bitnet": "attn_sub_norm",
    "deepseek_v3": "kv_a_proj_with_mqa",
    "bloom": "no decoder",
}


def built(kind: str, **more) -> PreTrainedModel:
    plain = AutoConfig.for_model(kind)
    sizes = {name: value for name, value in {**SIZES, **more}.items() if hasattr(plain, name)}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).eval()


def padded() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    return {"input_ids": ids, "attention_mask": mask, "use_cache": False}


@pytest.mark.parametrize(("kind", "projection"), ACCEPTED.items())
@torch.no_grad()
def test_rows_are_those_of_eager_and_heads_are_those_before_the_projection(kind, projection):
    model, inputs, seen = built(kind), padded(), []
    model.set_attn_implementation("eager")
    out = model(**inputs, output_attentions=True)
    model.set_attn_implementation("sdpa")
    with record(model, [6, 7, 8]) as recorded:
        logits = model(**inputs).logits
    torch.testing.assert_close(recorded.stack(), torch.stack(out.attentions)[..., -3:, :], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[:, -3:], out.logits[:, -3:], atol=1e-4, rtol=0)
    module = attention_modules(model)[-1]
    handle = getattr(module, projection).register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))
    model(**inputs)
    with ablate(model, [(layer_of(module), 1)]):
        model(**inputs)
    handle.remove()
    before, after = (one.unflatten(-1, (HEADS, -1)) for one in seen)
    before[:, :, 1] = 0
    assert torch.equal(after, before)


@pytest.mark.parametrize(("kind", "named"), REFUSED.items())
def test_heads_that_are_more_than_a_softmax_are_refused(kind, named):
    with torch.device("meta"):
        model = built(kind, n_routed_experts=4, num_key_value_heads=HEADS)
    for program in (record(model, -1), ablate(model, HeadSet("L0H0")), sparsify(model, HeadSet(), Window(4))):
        with pytest.raises(UnsupportedArchitecture, match=named):
            program.__enter__()


def test_a_refusal_names_what_is_supported():
    with pytest.raises(UnsupportedArchitecture, match=r"Qwen3-VL, Qwen2\.5-VL, InternVL, LLaVA-OneVision, SmolVLM"):
        attention_modules(built("diffllama"))


@torch.no_grad()
def test_two_softmaxes_in_one_layer_are_refused():
    """Also where no part of the module tells."""
    model = built("llama")
    module, forward = attention_modules(model)[0], type(attention_modules(model)[0]).forward

    class Twice(type(module)):
        def forward(self, *args, **kwargs):
            first, second = (forward(self, *args, **kwargs) for _ in range(2))
            return first[0] - second[0], None

    module.__class__ = Twice
    with record(model, -1), pytest.raises(UnsupportedArchitecture, match="more than once"):
        model(**padded())


@torch.no_grad()
def test_layers_that_have_no_softmax_attention():
    model, inputs = built("olmo_hybrid"), padded()
    there = [layer_of(module) for module in attention_modules(model)]
    assert there == [1]
    model.set_attn_implementation("eager")
    expected = model(**inputs, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    with record(model, [6, 7, 8]) as recorded:
        model(**inputs)
    torch.testing.assert_close(recorded.attention[1], [one for one in expected if one is not None][-1][:, :, -3:])
    with pytest.raises(BadInput, match="layer 0 has no softmax attention"):
        ablate(model, "L0H0").__enter__()
    with pytest.raises(UnsupportedArchitecture, match="without softmax attention"):
        sparsify(model, "L1H0", Window(4)).__enter__()


def test_what_is_no_model_is_told_so():
    class Wrapper:
        model = nn.Linear(2, 2)

    for given in (Wrapper(), None, "mini-s"):
        with pytest.raises(BadInput, match=r"give a torch module, as in record\(vlm.model"):
            record(given, -1).__enter__()
    with pytest.raises(CorelibError, match="no decoder"):
        attention_modules(nn.Linear(2, 2))


def test_parts_that_adapters_bring_are_theirs():
    """An adapter wraps a projection and keeps its name."""
    module = attention_modules(built("llama"))[0]
    module.q_proj = nn.Sequential(module.q_proj)
    check_supported(module)
