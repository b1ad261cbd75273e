"""What a kept pass holds, and what it refuses: layers that do more, numbers that are not finite, other devices."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from corelib import HeadSet, load, task
from corelib.attention.head_outputs import head_outputs
from corelib.attention.interface import attention_modules
from corelib.core.errors import BadInput, NotFinite, UnsupportedArchitecture
from corelib.experiments.answer_sweep import answer_sweep
from corelib.experiments.reading import read_heads
from corelib.families import tiny
from corelib.models.answers import score_answers
from corelib.models.devices import execution_device
from corelib.models.vlm import VLM
from corelib.replay.from_layer import replay_from_layer
from corelib.replay.from_question import replay_from_question, whole_pass
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.replay.residual_cache import residual_cache

TAKEN_APART = [name for name in tiny.tiny_names() if "gemma3" not in name]  # that has norms behind its parts


@pytest.fixture
def some() -> VLM:
    """One that may be broken."""
    return load("tiny-random:qwen3-vl")


def drawn(vlm: VLM, count: int = 2):
    return vlm.encode(task("scenes").samples("select", 0, count))


def decoder_layers(vlm: VLM) -> list[nn.Module]:
    return list(vlm.model.model.language_model.layers)


def test_what_a_layer_keeps_is_what_the_model_computes(some):
    batch = drawn(some)
    kept = residual_cache(some, batch)
    entering = []
    for module in (*decoder_layers(some), some.model.model.language_model.norm):
        module.register_forward_pre_hook(lambda module, given: entering.append(given[0]))
    with torch.no_grad(), head_outputs(some.model) as z:
        some.model(**batch.inputs, use_cache=False)
    assert len(kept.layers) == len(kept.blocks) == some.num_layers
    torch.testing.assert_close(kept.resid_pre, entering[0])
    for number, (block, layer) in enumerate(zip(kept.blocks, kept.layers, strict=True)):
        torch.testing.assert_close(layer.z, z[number])
        assert layer.keys.shape == layer.values.shape == (2, batch.tokens.shape[1], some.num_kv_heads, 16)
        with torch.no_grad():
            mid = entering[number] + block.self_attn.o_proj(layer.z.flatten(2))
            post = mid + block.mlp(block.post_attention_layernorm(mid))
        torch.testing.assert_close(layer.resid_mid, mid, atol=1e-5, rtol=1e-4)
        assert (layer.between is not None) == (number == 0)  # the deep stack is added behind the first layer only
        found = post if layer.between is None else post + layer.between
        torch.testing.assert_close(found, entering[number + 1], atol=1e-4, rtol=1e-4)


# --- layers that do more --------------------------------------------------------------------------------------------


def scaled_mlp(block: nn.Module) -> None:
    """The stream is scaled after the feed-forward part, as in models with residual multipliers."""
    block.register_forward_hook(lambda module, given, out: out * 0.9)


def another_norm(block: nn.Module) -> None:
    """What the attention gets is not what `input_layernorm` makes of the stream."""

    def gets(module, given, options):
        return given, {**options, "hidden_states": options["hidden_states"] * 0.9}

    block.self_attn.register_forward_pre_hook(gets, with_kwargs=True)


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("change", [scaled_mlp, another_norm])
def test_every_layer_is_proved_to_be_taken_apart(some, change, layer):
    batch = drawn(some)
    change(decoder_layers(some)[layer])
    with pytest.raises(UnsupportedArchitecture, match=rf"layer {layer} \(.*DecoderLayer"):
        residual_cache(some, batch)
    whole = whole_pass(some, batch).logprob  # and what falls back on whole passes is right
    torch.testing.assert_close(replay_from_question(some, batch)().logprob, whole)
    found = answer_sweep(some, task("scenes").draw("test", samples=2), [HeadSet()], batch_size=2)
    test = some.encode(task("scenes").samples("test", 0, 2))
    torch.testing.assert_close(found.logprob[0], some.answer(test).logprob, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", [0, 2])
def test_heads_that_are_gated_after_the_attention_function_are_refused(some, layer):
    """An attention whose `o_proj` is given more than the heads' outputs."""
    batch, module = drawn(some), attention_modules(some.model)[layer]
    module.o_proj = Gated(module.o_proj)
    assert residual_cache(some, batch)  # a module of its own is asked, whatever it does: `Packed` is one
    module.forward = gated(module, module.forward)
    with pytest.raises(UnsupportedArchitecture, match=rf"layer {layer} "):
        residual_cache(some, batch)


class Gated(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.gate = inner, 1.0

    def forward(self, given):
        return self.inner(given * self.gate)


def gated(module, forward):
    def run(*given, **options):
        module.o_proj.gate = 0.5
        try:
            return forward(*given, **options)
        finally:
            module.o_proj.gate = 1.0

    return run


@pytest.mark.parametrize("name", ["mini-s", *TAKEN_APART])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_every_family_passes_the_proof_in_every_precision(name, dtype):
    vlm = load(name)
    vlm = VLM(name, deepcopy(vlm.model).to(dtype), vlm.family)
    batch = drawn(vlm)
    found = replay_from_layer(residual_cache(vlm, batch), [HeadSet()]).logprob[0]
    close = {torch.bfloat16: 0.2}.get(dtype, 1e-4)
    torch.testing.assert_close(found, vlm.answer(batch).logprob.float(), atol=close, rtol=close)


# --- not finite ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_an_overflow_is_told_and_does_not_fall_back(some, layer):
    batch = drawn(some)
    about_one = some.encode(task("scenes").questions_for("select", 0, 0, 2))
    with torch.no_grad():
        decoder_layers(some)[layer].mlp.down_proj.weight.mul_(1e38)
    for way in (
        lambda: residual_cache(some, batch),
        lambda: replay_from_question(some, batch),
        lambda: replay_from_prefix(some, about_one)(),
        lambda: some.answer(batch),
        lambda: answer_sweep(some, task("scenes").draw("test", samples=2), [HeadSet()], batch_size=2),
    ):
        with pytest.raises(NotFinite, match=r"not finite.*float32 or bfloat16"):
            way()


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ("model.language_model.layers.2.mlp.down_proj", r"layer 2 \(mlp\.down_proj\)"),
        ("model.language_model.layers.0.self_attn.v_proj", r"layer 0 \(self_attn\.v_proj\)"),
        ("model.visual.blocks.1.mlp.linear_fc2", r"model\.visual\.blocks\.1\.mlp\.linear_fc2"),
    ],
)
def test_in_half_precision_the_place_is_named_where_it_overflows(part, place):
    """Weights that are finite themselves; read, answered and written, and float32 does as the message says."""
    vlm = load("tiny-random:qwen3-vl")
    samples = task("scenes").questions_for("select", 0, 0, 2)
    with torch.no_grad():
        weight = vlm.model.half().get_submodule(part).weight
        weight.div_(weight.abs().max()).mul_(6e4)
    assert all(one.isfinite().all() for one in vlm.model.parameters())
    batch, asked = vlm.encode(samples), vlm.encode(samples, answers=False)
    for way in (lambda: vlm.answer(batch), lambda: vlm.generate(asked, 2), lambda: read_heads(vlm, batch)):
        with pytest.raises(NotFinite, match=rf"not finite; what {place} computes.*--dtype float32"):
            way()
    vlm.model.float()
    assert vlm.answer(vlm.encode(samples)).logprob.isfinite().all()


def test_what_overflows_only_under_a_set_of_heads_is_told(some):
    kept = residual_cache(some, drawn(some))
    with torch.no_grad():
        some.model.lm_head.weight.mul_(1e38)
        some.model.lm_head.weight.mul_(1e38)
    with pytest.raises(NotFinite, match="logits"):
        replay_from_layer(kept, [HeadSet("L1H0")])


def test_only_marked_rows_must_be_finite():
    logits = torch.zeros(1, 2, 3)
    logits[0, 1] = torch.nan
    found = score_answers(logits, torch.zeros(1, 2, dtype=torch.long), torch.tensor([[True, False]]))
    assert found.logprob.item() == pytest.approx(-torch.tensor(3.0).log().item())


# --- only answer rows become logits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["scenes", "documents", "video", "needle"])
@pytest.mark.parametrize("name", ["mini-s", pytest.param("bridge", marks=pytest.mark.slow), *tiny.tiny_names()])
def test_answers_are_those_of_all_logits(name, domain):
    vlm = load(name)
    batch = vlm.encode(task(domain).samples("select", 0, 2))
    with torch.no_grad():
        logits = vlm.model(**batch.inputs, use_cache=False).logits[:, :-1].float()
    whole = score_answers(logits, batch.tokens[:, 1:], batch.rows("answer")[:, :-1])
    found = vlm.answer(batch)
    torch.testing.assert_close(found.logprob, whole.logprob, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.correct, whole.correct)
    rows = batch.rows("answer")
    assert torch.equal(found.next_tokens[:, :-1][rows[:, :-1]], logits.argmax(-1)[rows[:, :-1]])
    assert (found.next_tokens[~rows] == -1).all()


# --- devices ---------------------------------------------------------------------------------------------------------


def test_the_device_a_module_runs_on():
    linear = nn.Linear(2, 2)
    assert execution_device(linear) == torch.device("cpu")
    away = nn.Linear(2, 2, device="meta")
    with pytest.raises(BadInput, match="meta"):
        execution_device(away)
    away._hf_hook = SimpleNamespace(execution_device="cpu")
    assert execution_device(away) == torch.device("cpu")
    away._hf_hook = SimpleNamespace(execution_device=1)  # as accelerate counts GPUs
    assert execution_device(away) == torch.device("cuda:1")
    away._hf_hook = SimpleNamespace(hooks=[SimpleNamespace(), SimpleNamespace(execution_device="cuda:1")])
    assert execution_device(away) == torch.device("cuda:1")
    assert execution_device(nn.Sequential(away, linear)) == torch.device("cuda:1")


def test_kept_tensors_go_where_their_layer_is(some):
    """One layer on a device of its own, as in a model that is spread over two: all that it is given is sent there."""
    kept, sent = residual_cache(some, drawn(some)), []
    kept.blocks[2].to("meta")._hf_hook = SimpleNamespace(execution_device="meta")  # the one device that always is
    kept.blocks[2].self_attn.register_forward_pre_hook(
        lambda module, given, options: sent.append({one.device.type for one in _tensors((given, options))}),
        with_kwargs=True,
    )
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta"):  # on the way to the next layer
        replay_from_layer(kept, [HeadSet("L1H0")])
    assert sent == [{"meta"}]


def _tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
