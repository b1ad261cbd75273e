"""Encoding: which tokens are what, and that answers are scored as generation would score them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from corelib.attention.interface import attention_modules, running
from corelib.attention.intervene import ablate
from corelib.attention.record import record
from corelib.bridge import language
from corelib.core.errors import BadInput, BadRegion, UnknownName
from corelib.core.heads import HeadSet, top_count
from corelib.models.attention_map import map_attention
from corelib.models.batch import ROWS
from corelib.models.load import load
from corelib.tasks import DOMAINS, TASKS, Box, Sample, task


@pytest.mark.parametrize("name", TASKS)
def test_rows_are_where_the_words_say(vlm, name):
    samples = list(task(name).samples("test", 0, 5))
    encoded = vlm.encode(samples)
    words = [vlm.tokenizer.convert_ids_to_tokens(row.tolist()) for row in encoded.tokens]
    for row, sample in enumerate(samples):
        question = [w for w, mine in zip(words[row], encoded.rows("question")[row], strict=True) if mine]
        assert question == vlm.tokenizer.tokenize(sample.question)
        last = encoded.rows("last")[row].nonzero().flatten().tolist()
        assert [words[row][k] for k in last] == ["?"]
        predicted = [words[row][k + 1] for k in encoded.rows("answer")[row].nonzero().flatten().tolist()]
        assert "".join(predicted) == sample.answer
        assert encoded.rows("answer")[row].nonzero()[0] == last[0]
    assert not (encoded.visual & ~encoded.real).any()


@pytest.mark.parametrize("name", DOMAINS)
def test_evidence_tokens_show_the_evidence(vlm, name):
    """Paint the evidence: exactly the claimed tokens change at the patch embedding."""
    sample = task(name).sample("test", 0, 1)
    painted = [image.copy() for image in sample.images]
    for box in sample.evidence:
        painted[box.image].paste((255, 0, 255), tuple(int(v) for v in (box.x0, box.y0, box.x1, box.y1)))
    before, after = (vlm.encode([s]) for s in (sample, replace(sample, images=tuple(painted))))
    key = "pixel_values_videos" if sample.video else "pixel_values"
    changed = (before.inputs[key] != after.inputs[key]).any(1).reshape(-1, 4).any(1)  # four patches a token
    positions = before.visual[0].nonzero().flatten()
    assert positions[changed].tolist() == before.evidence[0].nonzero().flatten().tolist()


def test_distractors_are_other_tokens(vlm):
    encoded = vlm.encode(task("scenes").samples("test", 0, 4))
    assert encoded.distractors.shape[1] >= 4
    assert not (encoded.distractors & encoded.evidence[:, None]).any()
    assert not (encoded.distractors & ~encoded.visual[:, None]).any()


def test_a_clip_goes_through_the_video_path(vlm):
    inputs = vlm.encode([task("video").sample("test", 0, 0)]).inputs
    assert "pixel_values_videos" in inputs and "pixel_values" not in inputs
    assert inputs["video_grid_thw"].tolist() == [[6, 6, 6]]


@pytest.mark.parametrize("name", DOMAINS)
def test_teacher_forcing_agrees_with_generation(vlm, name):
    samples = list(task(name).samples("validate", 0, 6))
    answers = vlm.answer(vlm.encode(samples))
    for sample, correct in zip(samples, answers.correct.tolist(), strict=True):
        given = vlm.ask(sample.images, sample.question, video=sample.video)
        assert (given == sample.answer) == correct
    assert (answers.logprob < 0).all()


def test_padding_changes_nothing(vlm):
    samples = [task("scenes").sample("test", 0, 0), task("documents").sample("test", 0, 0)]
    together = vlm.answer(vlm.encode(samples))
    alone = [vlm.answer(vlm.encode([sample])) for sample in samples]
    torch.testing.assert_close(together.logprob, torch.cat([a.logprob for a in alone]), atol=1e-4, rtol=1e-4)


def test_bad_questions_and_regions(vlm):
    sample = task("scenes").sample("test", 0, 0)
    with pytest.raises(BadInput, match="do not know 'banana'"):
        vlm.ask(sample.images, "digit on red banana ?")
    with pytest.raises(BadInput, match="empty question"):
        vlm.ask(sample.images, " ")
    with pytest.raises(BadInput, match="tokens must be"):
        vlm.ask(sample.images, sample.question, tokens=0)
    with pytest.raises(BadInput, match="at least one sample"):
        vlm.encode([])
    with pytest.raises(BadRegion, match="outside"):
        _ = vlm.encode([replace(sample, evidence=(Box(500, 500, 520, 520),))]).evidence
    with pytest.raises(BadInput, match="on picture 3"):
        _ = vlm.encode([replace(sample, evidence=(Box(0, 0, 8, 8, image=3),))]).evidence
    with pytest.raises(UnknownName, match="query rows"):
        vlm.encode([sample]).rows("first")
    assert ROWS[0] == "answer"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mini-s", {}),
        ("mini-s", {"checkpoint": "before"}),
        ("mini-s", {"untrained": True}),
        ("mini-s", {"device": "cpu"}),
        ("bridge", {}),
        ("smollm2", {}),
        ("tiny-random:qwen3-vl", {}),
    ],
)
def test_a_model_is_loaded_to_be_asked_and_not_to_be_trained(name, options):
    if name in ("bridge", "smollm2") and not language.is_installed():
        pytest.skip("the language model under the bridge is not installed here")
    if name == "bridge":
        pytest.importorskip("peft", reason="the bridge needs peft")
    model = load(name, **options).model
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_any_picture_can_be_asked_about(vlm):
    assert isinstance(vlm.ask([Image.new("L", (75, 50))], "digit on red square ?"), str)


def test_what_is_plainly_meant_is_taken(vlm, tmp_path):
    """A picture for a list of one, a file for a picture, a sample for a list of one."""
    sample = task("scenes").sample("test", 0, 0)
    path = tmp_path / "one.png"
    sample.images[0].save(path)
    for given in (sample.images[0], [sample.images[0]], path, str(path), [path]):
        assert vlm.ask(given, sample.question) == sample.answer
    assert vlm.encode(sample).samples == (sample,)
    assert map_attention(vlm, path, sample.question).images[0].tobytes() == sample.images[0].tobytes()
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    assert Sample.of(clear, "digit ?").images[0].getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda vlm, asked: vlm.ask([], asked), "there is no picture to ask about"),
        (lambda vlm, asked: vlm.ask(None, asked), "None is no picture"),
        (lambda vlm, asked: vlm.ask([None], asked), "picture 0 is a NoneType"),
        (lambda vlm, asked: vlm.ask([np.zeros((8, 8, 3))], asked), "of an array, Image.fromarray"),
        (lambda vlm, asked: vlm.ask("none.png", asked), "cannot read the picture none.png"),
        (lambda vlm, asked: vlm.ask(Image.new("RGB", (64, 64)), None), "the question is None"),
        (lambda vlm, asked: vlm.ask(Image.new("RGB", (64, 64)), asked, tokens="8"), "tokens must be a whole number"),
        (lambda vlm, asked: vlm.encode([3]), "3 is no sample"),
        (lambda vlm, asked: vlm.encode(None), "None is no sample"),
        (lambda vlm, asked: task(None), "unknown domain None"),
        (lambda vlm, asked: task("scenes", objects="many"), "objects is 'many': give a whole number"),
        (lambda vlm, asked: task("scenes", objects=2.5), "objects is 2.5"),
        (lambda vlm, asked: list(task("scenes").samples("test", 0, "8")), "samples must be a whole number"),
        (lambda vlm, asked: task("scenes").sample("test", None, 0), "seed must be a whole number"),
        (lambda vlm, asked: HeadSet(None), "None is no set of heads"),
        (lambda vlm, asked: top_count("5%", 8), "fraction is '5%'"),
        (lambda vlm, asked: ablate(vlm, "L4H0").__enter__(), "give its .model"),
        (lambda vlm, asked: ablate(vlm.model, "L4H0", replacement=[1]).__enter__(), "replacement is a list"),
        (lambda vlm, asked: record(vlm, -1).__enter__(), "give its .model"),
        (lambda vlm, asked: record(vlm.model, None).__enter__(), "rows is NoneType"),
        (lambda vlm, asked: record(vlm.model, [[True]]).__enter__(), "rows is list"),
        (lambda vlm, asked: record(vlm.model, -1, reduce=3).__enter__(), "reduce is 3"),
        (lambda vlm, asked: running(vlm.model, None).__enter__(), "the program is None"),
    ],
)
def test_what_is_not_understood_is_said_so(vlm, call, told):
    with pytest.raises(BadInput, match=re.escape(told)):
        call(vlm, "digit on red square ?")
    assert not any(module._forward_pre_hooks for module in attention_modules(vlm.model))


def test_a_replacement_that_is_no_tensor_is_refused(vlm):
    batch = vlm.encode(task("scenes").sample("test", 0, 0))
    for wrong in (None, torch.zeros(3, 3)):
        with pytest.raises(BadInput, match="is no tensor"), ablate(vlm.model, "L4H0", replacement={4: wrong}):
            vlm.answer(batch)
