"""Adapters, quantised and offloaded weights: what heads write is asked of the module, never of its weight."""

from __future__ import annotations

from copy import deepcopy
from tempfile import TemporaryDirectory
from weakref import finalize

import pytest
import torch
from torch import Tensor, nn

from corelib import HeadSet, load, task
from corelib.attention.head_outputs import head_outputs
from corelib.attention.interface import attention_modules
from corelib.attention.intervene import ablate
from corelib.attention.redirect import redirect
from corelib.core.errors import UnsupportedArchitecture
from corelib.experiments.answer_sweep import answer_sweep
from corelib.experiments.reading import read_heads
from corelib.families import tiny
from corelib.models.batch import Batch
from corelib.models.head_writes import head_writes
from corelib.models.last_norm import LastNorm
from corelib.models.vlm import VLM
from corelib.replay.from_layer import replay_from_layer
from corelib.replay.from_question import replay_from_question
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.replay.residual_cache import residual_cache
from corelib.replay.shared_prefix import share_prefix
from corelib.sparse import Window, sparsify

SETS = [HeadSet(), HeadSet("L0H3"), HeadSet("L1H2 L2H0 L1H5"), HeadSet("L3H1")]


class Packed(nn.Module):
    """A linear layer as a quantiser stores it: its weight is bytes in one column, and only `forward` can read it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        whole = linear.weight.detach()
        scale = whole.abs().amax() / 127
        packed = (whole / scale).round().clamp(-127, 127).to(torch.int8)
        self.weight = nn.Parameter(packed.reshape(-1, 1), requires_grad=False)
        self.scale, self.shape = scale, whole.shape
        self.bias = linear.bias

    def forward(self, given: Tensor) -> Tensor:
        return nn.functional.linear(given, self.weight.view(self.shape).to(given.dtype) * self.scale, self.bias)


def packed(model: nn.Module) -> None:
    for module in attention_modules(model):
        module.o_proj = Packed(module.o_proj)


def biased(model: nn.Module) -> None:
    """No family of ours has a bias there, but others do."""
    torch.manual_seed(1)
    for module in attention_modules(model):
        module.o_proj.bias = nn.Parameter(torch.randn(module.o_proj.out_features))


def lora(model: nn.Module) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
    config = peft.LoraConfig(r=4, lora_alpha=32, target_modules=targets, init_lora_weights=False)
    peft.inject_adapter_in_model(config, model)
    model.eval()


def offloaded(model: nn.Module) -> None:
    """Weights wait on the CPU, and parameters are on `meta`, but while their module runs."""
    accelerate = pytest.importorskip("accelerate")
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))


def on_disk(model: nn.Module) -> None:
    """A device map: the vision tower and every other layer wait on the disk, the rest on the CPU."""
    accelerate = pytest.importorskip("accelerate")
    layers = {f"model.language_model.layers.{number}": ("cpu", "disk")[number % 2] for number in range(4)}
    others = ("embed_tokens", "norm", "rotary_emb")
    placed = {"model.visual": "disk", "lm_head": "cpu", **layers}
    placed |= {f"model.language_model.{name}": "cpu" for name in others}
    folder = TemporaryDirectory()
    finalize(model, folder.cleanup)
    accelerate.dispatch_model(model, placed, offload_dir=folder.name)
    assert model.get_submodule("model.language_model.layers.1").mlp.down_proj.weight.is_meta


CHANGES = {"packed": packed, "biased": biased, "lora": lora, "offloaded": offloaded, "on disk": on_disk}


@pytest.fixture(scope="module")
def plain() -> VLM:
    return load("tiny-random:qwen3-vl")


@pytest.fixture(params=CHANGES)
def changed(request, plain) -> VLM:
    model = deepcopy(plain.model)
    CHANGES[request.param](model)
    return VLM("changed", model, plain.family, request.param)


def close(one: Tensor, two: Tensor) -> None:
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_every_replay_is_a_whole_pass(changed):
    batch = changed.encode(task("scenes").questions_for("select", 0, 0, 3))
    assert batch.tokens.device.type == "cpu"
    kept = residual_cache(changed, batch)
    whole = []
    for heads in SETS:
        with ablate(changed.model, heads):
            whole.append(changed.answer(batch).logprob)
    assert (whole[1] - whole[0]).abs().max() > 1e-2
    for each in (kept, share_prefix(kept, batch)):
        close(replay_from_layer(each, SETS).logprob, torch.stack(whole))
    close(replay_from_question(changed, batch)().logprob, whole[0])
    close(replay_from_prefix(changed, batch)().logprob, whole[0])


def test_a_sweep_too(changed):
    found = answer_sweep(changed, task("scenes").draw("test", samples=2), SETS, batch_size=2)
    batch = changed.encode(task("scenes").samples("test", 0, 2))
    for number, heads in enumerate(SETS):
        with ablate(changed.model, heads):
            close(found.logprob[number], changed.answer(batch).logprob)


@pytest.mark.parametrize("change", ["offloaded", "on disk"])
def test_reading_redirecting_sparsifying_and_writing_follow_each_layers_device(plain, change):
    """The numbers of the model that lies in memory."""
    model = deepcopy(plain.model)
    CHANGES[change](model)
    vlm, found = VLM("changed", model, plain.family, change), []
    samples = list(task("scenes").samples("select", 0, 2))
    for one in (plain, vlm):
        batch, asked = one.encode(samples), one.encode(samples, answers=False)
        read = read_heads(one, batch, ["raw", "value_weighted"])
        with redirect(one.model, SETS[2], batch.evidence, batch.distractors[:, 0], batch.after_image):
            moved = one.answer(batch).logprob
        with sparsify(one.model, SETS[2], Window(16, 4)) as sparse:
            narrowed = one.answer(batch).logprob
            written = model_writes(one, asked, past_key_values=sparse.cache())
        swept = [
            answer_sweep(one, task("scenes").draw("test", samples=2), SETS, mode=mode, batch_size=2).logprob
            for mode in ("mean", "resample", "knockout")
        ]
        found.append(
            (read.scores["answer/mean/raw"], read.scores["answer/mean/value_weighted"], moved, narrowed, *swept)
        )
        found[-1] += (written, model_writes(one, asked))
    for mine, theirs in zip(*found, strict=True):
        close(mine.float(), theirs.float())
    plainly = plain.answer(plain.encode(samples)).logprob
    assert all((one - plainly).abs().max() > 1e-3 for one in found[0][2:4])


def model_writes(vlm: VLM, batch: Batch, **options: object) -> Tensor:
    return vlm.model.generate(**batch.inputs, max_new_tokens=3, do_sample=False, **options)


def test_what_heads_write_adds_up_to_what_the_module_writes(changed):
    batch = changed.encode(task("scenes").samples("select", 0, 2))
    with torch.no_grad(), head_outputs(changed.model, [1]) as found:
        changed.model(**batch.inputs, use_cache=False)
    module = attention_modules(changed.model)[1].o_proj
    rows = found[1][:, -3:]
    written = head_writes(module, rows.transpose(1, 2)).detach()  # [batch, head, row, width]
    with torch.no_grad():
        whole = module(rows.flatten(2)) - module(torch.zeros_like(rows.flatten(2)))
    close(written.sum(1), whole)
    with torch.no_grad():
        alone = rows.clone()
        alone[:, :, torch.arange(8) != 5] = 0
        close(written[:, 5], module(alone.flatten(2)) - module(torch.zeros_like(rows.flatten(2))))


@pytest.mark.parametrize("change", ["packed", "lora"])
def test_value_weighted_scores_follow_the_module(plain, change):
    """The same numbers as with one plain matrix that does what the changed module does."""
    model, merged = deepcopy(plain.model), deepcopy(plain.model)
    CHANGES[change](model)
    vlm = VLM("changed", model, plain.family)
    same = VLM("merged", merged, plain.family)
    if change == "lora":
        CHANGES[change](merged)
        for module in merged.modules():
            if hasattr(module, "merge") and hasattr(module, "lora_A"):
                module.merge()
        for module in attention_modules(merged):
            for name in ("q_proj", "v_proj", "o_proj"):
                setattr(module, name, getattr(module, name).base_layer)
    else:
        for module, other in zip(attention_modules(merged), attention_modules(model), strict=True):
            packing = other.o_proj
            module.o_proj.weight.data = packing.weight.view(packing.shape).float() * packing.scale
    batch = vlm.encode(task("scenes").samples("select", 0, 2))
    key = "answer/mean/value_weighted"
    found, wanted, before = (read_heads(one, batch, ["value_weighted"]).scores[key] for one in (vlm, same, plain))
    close(found, wanted)
    assert (found - before).abs().max() > 1e-4


@pytest.mark.parametrize("name", tiny.tiny_names())
def test_offloaded_models_of_all_families_encode_and_answer(name):
    vlm = load(name)
    batch = vlm.encode(task("scenes").samples("select", 0, 1))
    whole = vlm.answer(batch).logprob
    offloaded(vlm.model)
    again = vlm.encode(batch.samples)
    assert {value.device.type for value in again.inputs.values()} == {"cpu"}
    close(vlm.answer(again).logprob, whole)
    if "gemma3" not in name:  # whose layers cannot be taken apart
        close(replay_from_layer(residual_cache(vlm, again), [HeadSet()]).logprob[0], whole)


def test_weights_that_cannot_be_read_attribute_no_logits(plain):
    """They wait on the CPU, or are bytes, as a quantiser stores them."""
    vlm = VLM("changed", deepcopy(plain.model), plain.family)
    assert LastNorm.of(vlm).unembedding.shape[1] == len(LastNorm.of(vlm).gain)
    vlm.model.lm_head.weight = nn.Parameter(vlm.model.lm_head.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(UnsupportedArchitecture, match="offloaded or quantised"):
        LastNorm.of(vlm)
    away = VLM("changed", deepcopy(plain.model), plain.family)
    offloaded(away.model)
    with pytest.raises(UnsupportedArchitecture, match="offloaded or quantised"):
        LastNorm.of(away)
