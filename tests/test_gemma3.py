"""Gemma 3: pictures whose tokens see each other, layers that do not see far, and what every program makes of both."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_families import noise, stock
from transformers import DynamicCache

from corelib import Box, HeadSet, Sample, load, score_heads, task
from corelib.attention.head_outputs import head_outputs
from corelib.attention.interface import explicit_mask, running
from corelib.attention.intervene import ablate, knockout
from corelib.attention.record import record
from corelib.attention.redirect import redirect
from corelib.core.errors import BadInput, UnsupportedArchitecture
from corelib.families import tiny
from corelib.families.gemma3 import PAN_AND_SCAN, SOFT, crops
from corelib.models.grid_check import ROUNDING, perturb_region
from corelib.models.vlm import VLM
from corelib.models.wrap import wrap
from corelib.replay.from_question import replay_from_question
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.replay.residual_cache import residual_cache
from corelib.sparse import Window, sparsify
from corelib.sparse.blocks import Blocks, choose_blocks
from corelib.sparse.masked import masked_window
from corelib.tasks.collage import Collage

SLIDING, FULL = (0, 2), (1, 3)
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def gemma() -> VLM:
    return load("tiny-random:gemma3")


@pytest.fixture(scope="module")
def batch(gemma):
    """Two samples of one picture each; the second one's question is longer, so the first is padded."""
    samples = [
        Sample.of([noise(112, 112, seed)], text) for seed, text in ((0, "What is it?"), (1, "What is it, then?"))
    ]
    return gemma.encode([replace(one, answer="7", evidence=(Box(30, 30, 80, 80),)) for one in samples])


def panning() -> VLM:
    """A model whose image processor pans and scans."""
    model, family = tiny.build_tiny("gemma3")
    settings = {**PAN_AND_SCAN, "pan_and_scan_min_crop_size": 64, "do_pan_and_scan": True}
    images = family.processor(size={"height": 112, "width": 112}, **settings)
    return VLM("panning", model, replace(family, image_processor=images))


def masks(vlm: VLM, inputs) -> dict[int, torch.Tensor]:
    """What rows see in each layer, as the model itself says."""
    found = {}

    def program(call, inner):
        found[call.layer] = explicit_mask(call)
        return inner(call)

    with torch.no_grad(), running(vlm.model, program):
        vlm.model(**inputs, use_cache=False)
    return found


# --- pictures --------------------------------------------------------------------------------------------------------


def test_a_picture_is_cut_along_its_longer_side():
    assert crops(100, 40, 3) == [(0, 0, 34, 40), (34, 0, 68, 40), (68, 0, 100, 40)]
    assert crops(40, 100, 2) == [(0, 0, 40, 50), (0, 50, 40, 100)]
    assert crops(40, 100, 0) == []


@pytest.mark.parametrize("size", [(400, 130), (130, 333), (200, 190), (301, 100)], ids=str)
def test_pan_and_scan_is_that_of_the_stock_processor(size):
    vlm = panning()
    picture, settings = noise(*size), {key: getattr(vlm.family.image_processor, key) for key in PAN_AND_SCAN}
    mine = vlm.family.build_inputs([Sample.of([picture], "Say a letter.")], answers=False).inputs
    text = "<bos><start_of_turn>user\n<start_of_image>Say a letter.<end_of_turn>\n<start_of_turn>model\n"
    theirs = stock("gemma3", vlm.family)(
        text=[text], images=[[picture]], return_tensors="pt", do_pan_and_scan=True, **settings
    )
    assert set(theirs) == set(mine) and len(mine["pixel_values"]) in (1, 3, 4)
    for key, value in mine.items():
        assert torch.equal(theirs[key], value), key


def test_exactly_the_claimed_tokens_of_every_crop_change():
    """Crops of 112 × 112 pixels are not resized. The whole picture is, so beside its claimed tokens others blur."""
    vlm, box = panning(), Box(100, 20, 130, 50)  # on the first crop and on the second
    sample = Sample.of([noise(336, 112)], "What is it?")
    found, (whole, *views) = perturb_region(vlm, sample, box), vlm.encode([sample]).views[0]
    assert len(views) == 3
    for number, view in enumerate(views):
        changed, claimed = found.change[view.positions] > ROUNDING, found.claimed[view.positions]
        assert torch.equal(changed, claimed) and bool(claimed.any()) == (number < 2)
    assert found.claimed[whole.positions].any() and not found.claimed.all()


def test_what_an_image_processor_leaves_open_is_as_in_the_stock_one():
    _, family = tiny.build_tiny("gemma3")
    images = family.processor(size={"height": 112, "width": 112}, do_pan_and_scan=True)
    found = replace(family, image_processor=images).preprocess([noise(600, 300)], video=False)
    assert found.pixels["pixel_values"].shape[0] == 3 and found.shown[0].text.count(SOFT) == 3 * 16


def test_crops_that_a_caller_asked_for_are_not_misread(gemma):
    processor, picture = stock("gemma3", gemma.family), noise(600, 300)
    text = "<bos><start_of_turn>user\n<start_of_image>What?<end_of_turn>\n<start_of_turn>model\n7"
    inputs = processor(text=[text], images=[[picture]], return_tensors="pt", do_pan_and_scan=True)
    with pytest.raises(BadInput, match=r"pixel_values is \[3, 3, 112, 112\], and these images give \[1, 3, 112, 112\]"):
        gemma.from_inputs(inputs, [[picture]], answer=["7"])
    processor.chat_template = gemma.family.template
    processor.image_processor.do_pan_and_scan = True
    try:
        read = wrap(gemma.model, processor).from_inputs(inputs, [[picture]], answer=["7"])
    finally:
        processor.image_processor.do_pan_and_scan = None
    assert len(read.views[0]) == 3 and int(read.visual.sum()) == 3 * 16


def test_inputs_without_token_types_get_them(gemma):
    processor, picture = stock("gemma3", gemma.family), noise(112, 112)
    text = "<bos><start_of_turn>user\n<start_of_image>What?<end_of_turn>\n<start_of_turn>model\n7"
    inputs = processor(text=[text], images=[[picture]], return_tensors="pt")
    whole = gemma.from_inputs(inputs, [[picture]], answer=["7"])
    less = gemma.from_inputs({k: v for k, v in inputs.items() if k != "token_type_ids"}, [[picture]], answer=["7"])
    assert torch.equal(less.inputs["token_type_ids"], whole.inputs["token_type_ids"])
    assert torch.equal(less.visual, less.inputs["token_type_ids"].bool())


# --- what rows see ---------------------------------------------------------------------------------------------------


def test_tokens_of_one_picture_see_each_other_in_every_layer(gemma):
    encoded = gemma.encode([Sample.of([noise(112, 112, seed) for seed in (0, 1)], "What?")], answers=False)
    one, two = (view.positions for view in encoded.views[0])
    seen = masks(gemma, encoded.inputs)
    for layer in range(4):
        rows = seen[layer][0, 0]
        assert rows[one][:, one].all() and rows[two][:, two].all() and not rows[one][:, two].any()
        text = torch.ones(rows.shape[0], dtype=torch.bool)
        text[torch.cat([one, two])] = False
        assert not rows.triu(1)[text][:, text].any()
    last, (start, *_) = rows.shape[0] - 1, one.tolist()
    assert seen[1][0, 0, last, start] and not seen[0][0, 0, last, start]


def test_recorded_rows_of_pictures_are_those_of_eager_attention(gemma, batch):
    eager, _ = tiny.build_tiny("gemma3")
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        wanted = eager(**batch.inputs, use_cache=False, output_attentions=True).attentions
        with record(gemma.model, batch.visual) as recorded:
            gemma.model(**batch.inputs, use_cache=False)
    for layer in range(4):
        for row in range(2):
            found, rows = recorded.attention[layer][row], wanted[layer][row][:, batch.visual[row]]
            torch.testing.assert_close(found, rows, **CLOSE)
            ahead = found[:, 0, batch.visual[row]][:, 1:].sum(-1)  # of the first token, on those behind it
            assert (ahead > 1e-3).all(), layer


def test_a_head_that_is_blind_to_a_picture_keeps_what_else_its_rows_see(gemma, batch):
    """Compared with an eager model that is given the masks, with the evidence cut out: rows of the picture, too."""
    seen = masks(gemma, batch.inputs)
    rows = batch.visual | batch.after_image
    hidden = rows[:, None, :, None] & batch.evidence[:, None, None, :]
    cut = {layer: torch.where(seen[layer] & ~hidden, 0.0, torch.finfo(torch.float32).min) for layer in range(4)}
    eager, _ = tiny.build_tiny("gemma3")
    eager.set_attn_implementation("eager")
    given = {**batch.inputs, "attention_mask": {"sliding_attention": cut[0], "full_attention": cut[1]}}
    real = batch.real
    with torch.no_grad():
        wanted = eager(**given, use_cache=False).logits
        with knockout(gemma.model, batch.evidence, rows):
            found = gemma.model(**batch.inputs, use_cache=False).logits
        plain = gemma.model(**batch.inputs, use_cache=False).logits
    torch.testing.assert_close(found[real], wanted[real], atol=1e-4, rtol=1e-4)
    assert (found - plain)[real].abs().max() > 1e-2


@pytest.mark.parametrize("heads", [HeadSet("L0H3 L2H0"), HeadSet("L1H1 L1H2 L3H7")], ids=str)
def test_ablation_is_a_hook_before_the_output_projection(gemma, batch, heads):
    model, _ = tiny.build_tiny("gemma3")

    def silence(indices):
        def hook(module, given):
            split = given[0].unflatten(-1, (8, 16)).clone()
            split[..., list(indices), :] = 0
            return (split.flatten(-2),)

        return hook

    for layer, indices in heads.by_layer().items():
        model.model.language_model.layers[layer].self_attn.o_proj.register_forward_pre_hook(silence(indices))
    with torch.no_grad(), ablate(gemma.model, heads):
        found = gemma.model(**batch.inputs, use_cache=False).logits
    with torch.no_grad():
        wanted = model(**batch.inputs, use_cache=False).logits
    torch.testing.assert_close(found[batch.real], wanted[batch.real], **CLOSE)


@torch.no_grad()
def test_redirection_moves_the_mass_that_the_mask_lets_through(gemma, batch):
    """At all rows of the picture and behind it, in the first layer that sees all: z − A_E V_E + m · V_T."""
    rows, target = batch.after_image, torch.zeros_like(batch.evidence)
    for row, view in enumerate(batch.views):
        target[row, view[0].positions[0]] = True
    target &= ~batch.evidence
    values = {}

    def keep(call, inner):
        values[call.layer] = call.value
        return inner(call)

    with running(gemma.model, keep), record(gemma.model, rows) as recorded, head_outputs(gemma.model, [1]) as plain:
        gemma.model(**batch.inputs, use_cache=False)
    with head_outputs(gemma.model, [1]) as moved, redirect(gemma.model, "L1H5", batch.evidence, target, rows):
        gemma.model(**batch.inputs, use_cache=False)
    for row in range(2):
        at = rows[row].nonzero().flatten()
        attention = recorded.attention[1][row, 5, : len(at)]
        value = values[1][row, 5 // 2]
        there = batch.evidence[row]
        change = attention[:, there].sum(-1, keepdim=True) * value[target[row]] - attention[:, there] @ value[there]
        wanted = plain[1][row, at, 5] + change
        torch.testing.assert_close(moved[1][row, at, 5], wanted, **CLOSE)
        assert change.abs().max() > 1e-3


def test_a_target_out_of_the_window_is_refused(gemma, batch):
    away = torch.zeros_like(batch.evidence)
    away[:, int(batch.views[1][0].positions[0])] = True
    target = batch.real.int().argmax(1)[:, None] == torch.arange(batch.real.shape[1])
    with redirect(gemma.model, "L0H0", away & ~target, target, batch.rows("last")):
        with pytest.raises(BadInput, match="rows of layer 0 do not see the target"), torch.no_grad():
            gemma.model(**batch.inputs, use_cache=False)


@torch.no_grad()
def test_writing_with_a_sliding_cache_is_reading_the_whole(gemma):
    """Under a program, token by token; the prompt is longer than the window, and its picture out of it."""
    encoded = gemma.encode([Sample.of([noise(112, 112)], "What is it, and where does it stand?")], answers=False)
    ids, types = encoded.tokens, encoded.inputs["token_type_ids"]
    assert ids.shape[1] > gemma.model.config.text_config.sliding_window
    with ablate(gemma.model, "L0H1 L1H4"), knockout(gemma.model, encoded.visual, -1, "L3H0"):
        written = gemma.model.generate(**encoded.inputs, max_new_tokens=6, do_sample=False, eos_token_id=None)
        for step in range(6):
            more = written[:, : ids.shape[1] + step]
            given = {
                **encoded.inputs,
                "input_ids": more,
                "attention_mask": torch.ones_like(more),
                "token_type_ids": torch.nn.functional.pad(types, (0, step)),
            }
            if step == 0:  # the knockout is at the last row of the prompt alone
                again = gemma.model(**given, use_cache=False).logits[:, -1]
                assert int(again.argmax()) == int(written[0, ids.shape[1]])
    with ablate(gemma.model, "L0H1 L1H4"):
        plain = gemma.model.generate(**encoded.inputs, max_new_tokens=6, do_sample=False, eos_token_id=None)
        whole = {**encoded.inputs, "input_ids": plain, "attention_mask": torch.ones_like(plain)}
        whole["token_type_ids"] = torch.nn.functional.pad(types, (0, 6))
        logits = gemma.model(**whole, use_cache=False).logits[:, ids.shape[1] - 1 : -1]
    assert torch.equal(logits.argmax(-1), plain[:, ids.shape[1] :])


# --- what cannot be right --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("open_it", [
    lambda model: sparsify(model, "L1H0", Window(8, 2)),
    lambda model: masked_window(model, "L1H0", Window(8, 2)),
    lambda model: choose_blocks(model, "L1H0", Blocks(1, size=4)),
], ids=["sparsify", "mask", "blocks"])  # fmt: skip
def test_windows_refuse_pictures_and_take_texts(gemma, batch, open_it):
    said = gemma.answer(batch).logprob
    with pytest.raises(UnsupportedArchitecture, match="layer 0 the tokens of a picture see each other"):
        with open_it(gemma.model):
            gemma.answer(batch)
    assert torch.equal(gemma.answer(batch).logprob, said)
    words = gemma.encode([replace(Sample.of([], "What does 3 and 4 make, in one word?"), answer="7")])
    with open_it(gemma.model):
        short = gemma.answer(words).logprob
    assert short.isfinite().all() and (short - gemma.answer(words).logprob).abs() > 1e-6


def test_all_heads_dense_are_the_model(gemma, batch):
    said = gemma.answer(batch).logprob
    with sparsify(gemma.model, HeadSet.all(4, 8), Window(8, 2)):
        assert torch.equal(gemma.answer(batch).logprob, said)


def test_layers_that_cannot_be_taken_apart_run_whole(gemma):
    encoded = gemma.encode(list(task("collage").questions_for("select", 0, 0, 2)))
    with pytest.raises(UnsupportedArchitecture, match="does more than add attention and a feed-forward part"):
        residual_cache(gemma, encoded)
    heads = HeadSet("L1H0 L3H4")
    again, whole = replay_from_question(gemma, encoded), gemma.answer(encoded).logprob
    torch.testing.assert_close(again().logprob, whole, **CLOSE)
    with knockout(gemma.model, encoded.evidence, encoded.after_image, heads):
        torch.testing.assert_close(again().logprob, gemma.answer(encoded).logprob, **CLOSE)


def test_questions_behind_a_picture_that_is_read_once(gemma):
    """The picture is read with its token types, the questions behind it without: as one pass would."""
    encoded = gemma.encode(list(task("collage").questions_for("select", 0, 0, 3)))
    answer = replay_from_prefix(gemma, encoded)
    torch.testing.assert_close(answer().logprob, gemma.answer(encoded).logprob, atol=1e-4, rtol=1e-4)
    answer(keep=True)
    for heads in (HeadSet("L2H1 L3H0"), HeadSet("L3H2")):
        with ablate(gemma.model, heads):
            wanted = gemma.answer(encoded).logprob
            torch.testing.assert_close(answer(min(heads.by_layer())).logprob, wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_windows_that_go_on_from_a_cache_behind_the_window_are_refused(gemma):
    words = torch.randint(20, 200, (1, 80))
    with sparsify(gemma.model, "L1H0", Window(8, 2)):
        cache = DynamicCache()
        gemma.model(input_ids=words, past_key_values=cache)
        with pytest.raises(BadInput, match=r"layer 0 slides .* read them in one forward call"):
            gemma.model(input_ids=words[:, :1], past_key_values=cache)


# --- the commands ----------------------------------------------------------------------------------------------------


def test_the_commands_count_only_heads_in_reach_of_a_checkpoint_in_a_folder(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Collage, "available", lambda work, split, count: min(count, 4))  # enough for norms
    model, family = tiny.build_tiny("gemma3")
    folder = tmp_path / "gemma"
    for part in (model, family.tokenizer, family.image_processor):
        part.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(family.template, encoding="utf-8")
    scores, lost = tmp_path / "scores.json", tmp_path / "ablation.json"
    done = run("score", "--model", folder, "--domain", "collage", "--samples", 4, "--out", scores)
    assert done.returncode == 0, done.stderr
    told = json.loads(scores.read_text())
    table = np.array(told["scores"])
    assert told["model"]["reach"] == list(FULL)
    assert not table[list(SLIDING)].any() and (table[list(FULL)] > 0).all()
    few = ("--samples", 4, "--questions", 2, "--draws", 5)
    done = run("ablate", "--model", folder, "--scores", scores, *few, "--top", "10%", "--out", lost)
    assert done.returncode == 0, done.stderr
    found = json.loads(lost.read_text())
    assert found["model"]["reach"] == list(FULL) and len(found["conditions"]["core"]["heads"]) == 2  # of 16
    sets = [one["heads"] for one in found["conditions"].values()]
    sets += [drawn for null in found["null"].values() for drawn in null["sets"]]
    assert len(sets) > 10 and {name[:2] for one in sets for name in one} <= {"L1", "L3"}
    shown = run("compare", scores, scores)
    assert "only heads of layers 1, 3 count" in " ".join(shown.stdout.split())
    clock = ("--lengths", 128, "--window", 16, "--sinks", 4, "--repeats", 1, "--busy", "--dtype", "float32")
    refused = run("bench", "--model", folder, "--scores", scores, *clock, "--out", tmp_path / "b.json")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr and not (tmp_path / "b.json").exists()


def test_an_unusual_prompt_is_scored_like_any_other(gemma):
    """A clip is so many pictures; a text has none. Both are measured, and what is out of reach is zero, not missing."""
    for domain in ("video", "needle"):
        scores = score_heads(gemma, task(domain).draw("select", samples=2))
        table = np.asarray(scores)
        assert np.isfinite(table).all() and not table[list(SLIDING)].any() and scores.layers == FULL, domain
