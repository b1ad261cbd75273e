"""Published families: what stands in the prompt for a picture, and which token shows which part of it.

The words are compared with those of transformers' own processors, put together without their video part (which needs
torchvision). The places are found out: paint a region, and see which embeddings change.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from corelib import Box, HeadSet, Sample, task
from corelib.attention.intervene import ablate
from corelib.attention.record import record
from corelib.core.errors import BadInput, BadRegion, UnknownName, UnsupportedArchitecture
from corelib.core.weights import weights_checksum
from corelib.families import tiny, tiny_configs
from corelib.families.chat import BRIEFLY
from corelib.families.internvl import mosaic
from corelib.families.regions import coverage
from corelib.models.grid_check import ROUNDING, Perturbation, bypassed_tower, perturb_region
from corelib.models.vlm import VLM
from corelib.models.wrap import wrap
from corelib.replay.from_layer import replay_from_layer
from corelib.replay.from_question import replay_from_question
from corelib.replay.residual_cache import residual_cache
from corelib.replay.shared_prefix import share_prefix

FAMILIES = tuple(tiny_configs.KINDS)
PROCESSORS = {
    "qwen3-vl": ("qwen3_vl", "Qwen3VLProcessor", {}),
    "qwen2.5-vl": ("qwen2_5_vl", "Qwen2_5_VLProcessor", {}),
    "internvl": ("internvl", "InternVLProcessor", {"image_seq_length": 16}),
    "llava-onevision": (
        "llava_onevision",
        "LlavaOnevisionProcessor",
        {"num_image_tokens": 49, "vision_feature_select_strategy": "full"},
    ),
    "smolvlm": ("smolvlm", "SmolVLMProcessor", {"image_seq_len": 4}),
    "gemma3": ("gemma3", "Gemma3Processor", {"image_seq_length": 16}),
}
NAMED = {  # tokens that a processor asks of its tokenizer by name
    "internvl": {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "gemma3": {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>", "eoi_token": "<end_of_image>"},
}
SIZES = [[(192, 256)], [(33, 400)], [(1000, 700)], [(200, 300), (640, 100)], [(90, 90), (310, 120), (64, 64)]]
EXACT = {  # a picture that is not resized
    "qwen3-vl": (192, 256),
    "qwen2.5-vl": (196, 252),
    "internvl": (336, 224),
    "llava-onevision": (312, 208),
    "smolvlm": (512, 384),
    "gemma3": (112, 112),
}


@pytest.fixture(scope="module")
def vlms():
    """One tiny model a family, made when first asked for."""
    made: dict[str, VLM] = {}

    def get(name: str) -> VLM:
        torch.set_num_threads(1)
        if name not in made:
            made[name] = VLM(name, *tiny.build_tiny(name), sha256=name)
        return made[name]

    return get


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


# --- words -----------------------------------------------------------------------------------------------------------


def stock(name: str, family):
    """The family's processor in transformers, without a video processor."""
    folder, title, more = PROCESSORS[name]
    try:
        module = importlib.import_module(f"transformers.models.{folder}.processing_{folder}")
    except ImportError as error:  # older versions import their video part at once
        pytest.skip(f"this version of transformers needs more: {error}")
    if getattr(module, "num2words", True) is None:
        module.num2words = str
    for attribute, token in NAMED.get(name, {}).items():
        setattr(family.tokenizer, attribute, token)
        setattr(family.tokenizer, f"{attribute}_id", family.tokenizer.convert_tokens_to_ids(token))

    class WithoutVideo(getattr(module, title)):
        def check_argument_for_proper_class(self, *args, **kwargs):
            return None

    parts = {"image_processor": family.image_processor, "tokenizer": family.tokenizer, "video_processor": None}
    known = WithoutVideo.get_attributes()
    return WithoutVideo(**{name: part for name, part in parts.items() if name in known}, **more)


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "+".join(f"{w}x{h}" for w, h in sizes))
@pytest.mark.parametrize("name", FAMILIES)
def test_inputs_are_those_of_the_stock_processor(name, sizes, vlms):
    family = vlms(name).family
    processor = stock(name, family)
    pictures = [noise(*size) for size in sizes]
    mine = family.build_inputs([Sample.of(pictures, "What is it?")], answers=False).inputs
    content = []
    for number in range(len(pictures)):
        if len(pictures) > 1:
            content.append({"type": "text", "text": f"Picture {number + 1}: "})
        content.append({"type": "image"})
    content.append({"type": "text", "text": f"What is it?\n{BRIEFLY}"})
    turns = [{"role": "user", "content": content}]
    text = family.tokenizer.apply_chat_template(
        turns, chat_template=family.template, tokenize=False, add_generation_prompt=True
    )
    theirs = processor(text=[text], images=[pictures], return_tensors="pt")
    assert set(theirs) == set(mine)
    for key, value in mine.items():
        assert torch.equal(torch.as_tensor(theirs[key]), value), key


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_in_memory_is_the_one_that_is_loaded(name, vlms):
    vlm = vlms(name)
    processor = stock(name, vlm.family)
    processor.chat_template = vlm.family.template
    mine = wrap(vlm.model, processor, name="mine")
    samples = [Sample.of([noise(70, 90)], "What is it?"), Sample.of([noise(64, 64), noise(33, 40)], "Which?")]
    samples = [replace(sample, answer="7", evidence=(Box(0, 0, 64, 64),)) for sample in samples]
    ours, theirs = mine.encode(samples), vlm.encode(samples)
    for key, value in theirs.inputs.items():
        assert torch.equal(ours.inputs[key], value), key
    assert torch.equal(ours.evidence, theirs.evidence)
    assert torch.equal(mine.answer(ours).logprob, vlm.answer(theirs).logprob)
    assert mine.facts == replace(vlm.facts, name="mine", sha256=mine.sha256) and mine.sha256 == weights_checksum(
        vlm.model
    )


def adapt(plain: VLM):
    """A tiny Qwen3-VL with a LoRA that changes what it says, and the stock processor."""
    peft = pytest.importorskip("peft")
    processor = stock("qwen3-vl", plain.family)
    processor.chat_template = plain.family.template
    model = tiny.build_tiny("qwen3-vl")[0]
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    return peft.get_peft_model(model, lora), processor


def test_an_adapted_model_in_memory(vlms):
    plain = vlms("qwen3-vl")
    adapted, processor = adapt(plain)
    with pytest.raises(BadInput, match=r"training mode.*call model.eval\(\)"):
        wrap(adapted.train(), processor)
    mine = wrap(adapted.eval(), processor)
    assert mine.sha256 != plain.sha256 and (mine.num_layers, mine.num_heads) == (plain.num_layers, plain.num_heads)
    batch = mine.encode([replace(Sample.of([noise(64, 64)], "What?"), answer="7", evidence=(Box(0, 0, 32, 32),))])
    said = mine.answer(batch).logprob
    assert not torch.equal(said, plain.answer(batch).logprob)
    with ablate(mine.model, "L0H0"):
        assert not torch.equal(mine.answer(batch).logprob, said)
    assert torch.equal(mine.answer(batch).logprob, said)


def test_what_cannot_be_wrapped_is_refused(vlms):
    vlm = vlms("smolvlm")
    processor = stock("smolvlm", vlm.family)
    processor.chat_template = vlm.family.template
    with pytest.raises(UnsupportedArchitecture, match="this is a Linear; supported: Qwen3VL"):
        wrap(torch.nn.Linear(1, 1), processor)
    with pytest.raises(UnsupportedArchitecture, match="this is a SmolVLMModel"):
        wrap(vlm.model.model, processor)
    with pytest.raises(BadInput, match="has no tokenizer"):
        wrap(vlm.model, vlm.tokenizer)
    processor.chat_template = vlm.family.tokenizer.chat_template = None
    with pytest.raises(BadInput, match="no chat template"):
        wrap(vlm.model, processor)
    with torch.device("meta"), pytest.raises(BadInput, match="weight is not in memory"):
        weights_checksum(torch.nn.Linear(1, 1, bias=False))


@pytest.mark.parametrize("name", ["qwen3-vl", "qwen2.5-vl"])
def test_a_clip_is_written_as_the_stock_processor_writes_it(name, vlms):
    family = vlms(name).family
    processor = stock(name, family)

    class Video:
        merge_size, temporal_patch_size = 2, 2

    class Metadata:
        fps, frames_indices = 1.0, [0, 1, 2]

    processor.video_processor = Video()
    seen = family.preprocess([noise(64, 96, seed) for seed in range(3)], video=True)
    told = {"video_grid_thw": seen.pixels["video_grid_thw"], "video_metadata": [Metadata()]}
    theirs = processor.replace_video_token(told, 0)
    assert seen.shown[0].text == f"<|vision_start|>{theirs}<|vision_end|>"
    assert [piece.images for piece in seen.shown[0].pieces] == [(0, 1), (2,)]


def test_the_frames_of_a_clip_share_its_pixels(vlms):
    """By the defaults of the stock video processors. Qwen3-VL: six frames of 128 × 160 have less than 128 tokens of
    32 × 32 together: each grows by the root of 131,072 / 122,880, to whole tokens. Qwen2.5-VL: each must have 128."""
    frames = [noise(160, 128, seed) for seed in range(6)]
    for name, expected in (("qwen3-vl", [3, 10, 12]), ("qwen2.5-vl", [3, 22, 26])):
        family = replace(vlms(name).family, video={})
        seen = family.preprocess(frames, video=True)
        assert seen.pixels["video_grid_thw"].tolist() == [expected]
        assert [piece.images for piece in seen.shown[0].pieces] == [(0, 1), (2, 3), (4, 5)]


@pytest.mark.parametrize("name", [name for name in FAMILIES if tiny_configs.KINDS[name].family.clips])
def test_a_clip_that_cannot_be_prepared_as_the_stock_processor_does_is_refused(name, vlms):
    family, frames = vlms(name).family, [noise(64, 64), noise(64, 64, 1)]
    for video, message in (
        (None, "nothing is known of the video processor"),
        ({"do_center_crop": True}, "sets do_center_crop, which corelib does not follow"),
        ({"cap_pixels_per_frame": True}, "sets cap_pixels_per_frame"),
    ):
        other = replace(family, video=video)
        assert other.preprocess(frames, video=False).shown
        with pytest.raises(BadInput, match=message):
            other.preprocess(frames, video=True)
    with pytest.raises(BadInput, match="frames of a clip must have one size"):
        family.preprocess([noise(64, 64), noise(96, 64)], video=True)


def test_what_one_family_alone_refuses(vlms):
    for name in ("qwen3-vl", "qwen2.5-vl"):
        with pytest.raises(BadInput, match=r"4 × 1000 pixels.*up to 200 to 1"):
            vlms(name).encode([Sample.of([noise(4, 1000)], "What?")])
    with pytest.raises(BadInput, match="a clip of 1 frame: the processor of Qwen3-VL merges 2"):
        vlms("qwen3-vl").encode([Sample.of([noise(64, 64)], "What?", video=True)])
    still = replace(Sample.of([noise(64, 64)] * 2, "What?", video=True), seconds=0.0)
    with pytest.raises(BadInput, match=r"are 0\.0 seconds apart: give a number above 0"):
        vlms("smolvlm").encode([still])
    clips = [Sample.of([noise(64, 64)] * count, "What?", video=True) for count in (2, 3)]
    with pytest.raises(BadInput, match="clips of 2 and 3 frames in one batch"):
        vlms("llava-onevision").encode(clips)


def test_a_slice_holds_the_pixels_of_its_two_frames(vlms):
    """Frames that are alike make the patches of a still picture; of two that differ, each half is its own."""
    family = vlms("qwen3-vl").family
    one, two = noise(64, 64, 1), noise(64, 64, 2)
    stills = family.frame_processor(images=[one, two], return_tensors="pt")["pixel_values"]
    first, second = stills.chunk(2)
    same = family.preprocess([one, one], video=True).pixels["pixel_values_videos"]
    both = family.preprocess([one, two], video=True).pixels["pixel_values_videos"]
    assert torch.equal(same, first)
    halves = [pixels.unflatten(1, (3, 2, -1)) for pixels in (both, first, second)]
    assert torch.equal(halves[0][:, :, 0], halves[1][:, :, 0])
    assert torch.equal(halves[0][:, :, 1], halves[2][:, :, 1])


@pytest.mark.parametrize("name", FAMILIES)
def test_question_answer_and_context_are_where_they_are_said_to_be(name, vlms):
    vlm = vlms(name)
    picture = task("scenes").sample("test", 0, 0)
    text = task("needle").sample("test", 0, 0)
    encoded = vlm.encode([picture, text])
    for row, sample in enumerate((picture, text)):
        assert vlm.tokenizer.decode(encoded.tokens[row, encoded.rows("question")[row]]) == sample.question
        _, closing, answer = encoded.lengths[row].tolist()
        said = vlm.tokenizer.decode(encoded.tokens[row, -closing - answer : -answer])
        assert said.startswith(f"\n{BRIEFLY}") and ("ssistant" in said or "<start_of_turn>model" in said)
        assert vlm.tokenizer.decode(encoded.tokens[row, -answer:]).strip() == sample.answer
    (start, past), *_ = text.spans
    assert vlm.tokenizer.decode(encoded.tokens[1, encoded.spans[1]]) == text.context[start:past]
    assert vlm.tokenizer.decode(encoded.tokens[1, encoded.context[1]]) == text.context
    assert not encoded.context[0].any() and encoded.visual[0].any() and not encoded.visual[1].any()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_reads_what_each_sample_reads_alone(name, vlms):
    vlm = vlms(name)
    samples = [
        task("scenes").sample("test", 0, 0),
        task("documents").sample("test", 0, 1),
        task("video").sample("test", 0, 2),
        task("needle").sample("test", 0, 3),
    ]
    together = vlm.encode(samples)
    said = vlm.answer(together).logprob
    for row, sample in enumerate(samples):
        alone = vlm.encode([sample])
        length = alone.tokens.shape[1]
        for mask in ("evidence", "visual", "after_image", "context"):
            assert torch.equal(getattr(together, mask)[row, -length:], getattr(alone, mask)[0]), mask
        mine = alone.distractors[0]
        assert torch.equal(together.distractors[row, : len(mine), -length:], mine)
        torch.testing.assert_close(vlm.answer(alone).logprob[0], said[row], atol=1e-4, rtol=1e-4)


def test_a_question_that_says_how_to_answer_is_left_alone(vlms):
    vlm = vlms("internvl")
    encoded = vlm.encode([Sample.of([noise(64, 64)], "Say a letter.")], answers=False)
    assert BRIEFLY not in vlm.tokenizer.decode(encoded.tokens[0])


def test_what_cannot_be_asked_is_refused(vlms):
    vlm = vlms("qwen3-vl")
    with pytest.raises(BadInput, match="the question is empty"):
        vlm.encode([Sample.of([noise(64, 64)], "  ")])
    with pytest.raises(BadInput, match="frames of a clip must have one size"):
        vlm.encode([Sample.of([noise(64, 64), noise(96, 64)], "What?", video=True)])
    model, family = tiny.build_tiny("qwen3-vl")
    blind = type(family)(family.config, family.tokenizer, family.image_processor, "{{ messages[0].content[-1].text }}")
    with pytest.raises(BadInput, match="writes 0 pictures for 1"):
        VLM("x", model, blind).encode([Sample.of([noise(64, 64)], "What?")])
    with pytest.raises(UnknownName, match="did you mean 'qwen3-vl'"):
        tiny.build_tiny("qwen3vl")


# --- places ----------------------------------------------------------------------------------------------------------


def strays(vlm: VLM, sample: Sample, box: Box, found: Perturbation) -> int:
    """How many tokens changed that neither were claimed nor lie within the blur of a resized picture: Lanczos' filter
    takes three pixels more on each side, of the smaller of both pictures. There should be none, in any view."""
    near = found.claimed.clone()
    for view in vlm.encode([sample]).views[0]:
        if box.image not in view.images:
            continue
        x, y = (3 * max(1.0, 1 / scale) + 1 for scale in view.grid.scale)
        wider = Box(box.x0 - x, box.y0 - y, box.x1 + x, box.y1 + y)
        near[view.positions] |= coverage(view.grid, wider) > 0
    return int(((found.change > ROUNDING) & ~near).sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_special_token_in_a_text_is_named(vlms, family):
    vlm = vlms(family)
    plain = Sample.of([noise(64, 64)], "What does this mean?")
    for mark in (vlm.tokenizer.eos_token, vlm.family.visual_tokens()[0]):
        for what in ("question", "answer", "context"):
            with pytest.raises(BadInput, match=f"the {what} .* holds {re.escape(mark)}, a special token"):
                vlm.encode([replace(plain, **{what: f"What does {mark} mean?"})])
    assert vlm.encode([replace(plain, question="Is 3 < 4 | 5 > 4?")], answers=False).tokens.shape[0] == 1


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_exactly_the_claimed_tokens_change(name, vlms, data):
    """Of a picture that is not resized; in the view of the whole picture, which is resized, their neighbours, too."""
    vlm, (width, height) = vlms(name), EXACT[name]
    x0, y0 = data.draw(st.integers(0, width - 8)), data.draw(st.integers(0, height - 8))
    box = Box(x0, y0, data.draw(st.integers(x0 + 8, width)), data.draw(st.integers(y0 + 8, height)))
    sample = Sample.of([noise(width, height)], "What is it?")
    found = perturb_region(vlm, sample, box)
    assert found.exact and strays(vlm, sample, box, found) == 0
    assert found.elsewhere < ROUNDING or not name.startswith("qwen")  # these have no second view


def test_what_lies_in_the_margin_of_a_tile_is_blurred_into_its_last_row(vlms):
    """Of the whole picture, 104 pixels high, patches of 14 read 98; the box lies on 98 to 102."""
    vlm, (width, height), box = vlms("llava-onevision"), EXACT["llava-onevision"], Box(0, 196, 8, 204)
    sample = Sample.of([noise(width, height)], "What is it?")
    found, whole = perturb_region(vlm, sample, box), vlm.encode([sample]).views[0][0].positions
    assert found.exact and strays(vlm, sample, box, found) == 0
    assert not found.claimed[whole].any() and int((found.change[whole] > ROUNDING).sum()) == 1


@pytest.mark.parametrize("video", [False, True], ids=["pictures", "clip"])
@pytest.mark.parametrize("name", FAMILIES)
def test_of_several_pictures_only_the_painted_one_changes(name, video, vlms):
    vlm, (width, height) = vlms(name), EXACT[name]
    sample = Sample.of([noise(width, height, seed) for seed in range(3)], "What is it?", video=video)
    box = Box(16, 16, 100, 100, image=2)
    found = perturb_region(vlm, sample, box)
    others = [view.positions for view in vlm.encode([sample]).views[0] if 2 not in view.images]
    assert not found.change[torch.cat(others)].any()
    assert strays(vlm, sample, box, found) == 0 and found.change[found.claimed].any()
    assert found.exact or not name.startswith("qwen")  # others show one of several pictures, or a frame, in one tile


@pytest.mark.parametrize("size", [(312, 150), (150, 312)], ids=str)
def test_padding_is_no_place(size, vlms):
    """LLaVA-OneVision pads a picture, and takes the padding out again: what is left are its own tokens."""
    vlm, sample = vlms("llava-onevision"), Sample.of([noise(*size)], "What is it?")
    assert vlm.encode([sample]).views[0][1].grid.resized == size
    assert perturb_region(vlm, sample, Box(40, 30, 90, 110)).exact


@pytest.mark.parametrize("size", [(416, 416), (600, 420)], ids=str)
def test_of_a_mosaic_that_is_shrunk_no_changed_token_is_unclaimed(size, vlms):
    vlm, sample = vlms("llava-onevision"), Sample.of([noise(*size)], "What is it?")
    box = Box(40, 30, 90, 110)
    found = perturb_region(vlm, sample, box)
    assert strays(vlm, sample, box, found) == 0
    if size == (416, 416):  # the other one is resized, too
        assert not found.change[found.finest][~found.claimed[found.finest]].any()
    assert (found.change[found.claimed] > 1e-6).float().mean() > 0.8


def test_a_claim_that_is_wrong_is_seen(vlms, monkeypatch):
    """The checks can fail: with the rows of tiles in the wrong order, claimed tokens do not change, and others do."""
    vlm, (width, height) = vlms("smolvlm"), EXACT["smolvlm"]
    order = importlib.import_module("corelib.families.smolvlm").raster
    monkeypatch.setattr("corelib.families.smolvlm.raster", lambda *shape: order(*shape).flip(0))
    sample = Sample.of([noise(width, height)], "What is it?")
    box = Box(40, 30, 90, 110)
    found = perturb_region(vlm, sample, box)
    assert not found.exact and strays(vlm, sample, box, found) > 0


def test_a_tower_that_cannot_be_passed_by(vlms):
    with pytest.raises(UnsupportedArchitecture, match="has none of visual"), bypassed_tower(torch.nn.Sequential()):
        pass


def test_a_region_between_the_tokens_is_refused(vlms):
    """The last pixels of a tile of LLaVA-OneVision are read by no patch."""
    vlm = vlms("llava-onevision")
    encoded = vlm.encode([Sample.of([noise(104, 104)], "What is it?")])
    with pytest.raises(BadRegion, match="between the tokens"):
        encoded.cover([[Box(99, 0, 104, 104)]])
    with pytest.raises(BadInput, match="is on picture 1"):
        encoded.cover([[Box(0, 0, 10, 10, image=1)]])


def test_a_mosaic_by_hand():
    assert mosaic(448, 448, 448, 1, 12) == (1, 1)
    assert mosaic(896, 448, 448, 1, 12) == (1, 2)
    assert mosaic(4000, 4000, 448, 1, 12) == (3, 3)  # of 1, 4 and 9 tiles the most


# --- and everything behind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_recorded_rows_are_those_of_eager_attention(name, vlms):
    vlm = vlms(name)
    encoded = vlm.encode(list(task("scenes").samples("test", 0, 2)))
    with torch.no_grad(), record(vlm.model, encoded.rows("last")) as recorded:
        vlm.model(**encoded.inputs, use_cache=False)
    eager, family = tiny.build_tiny(name)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        out = VLM(name, eager, family).model(**encoded.inputs, use_cache=False, output_attentions=True)
    for layer, attention in enumerate(out.attentions):
        expected = attention[:, :, -1 - encoded.lengths[0, 2]]
        torch.testing.assert_close(recorded.attention[layer][:, :, 0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "gemma3"])  # see test_gemma3.py
def test_going_on_from_a_layer_is_a_whole_pass(name, vlms):
    vlm, sets = vlms(name), [HeadSet("L0H3"), HeadSet("L1H2 L2H0"), HeadSet()]
    encoded = vlm.encode([one for index in range(2) for one in task("collage").questions_for("select", 0, index, 2)])
    kept = residual_cache(vlm, encoded)
    for each in (kept, share_prefix(kept, encoded)):
        found = replay_from_layer(each, sets, batch_size=12)
        for number, heads in enumerate(sets):
            with ablate(vlm.model, heads):
                whole = vlm.answer(encoded)
            torch.testing.assert_close(found.logprob[number], whole.logprob, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        replay_from_question(vlm, encoded)().logprob, vlm.answer(encoded).logprob, atol=1e-4, rtol=1e-4
    )
