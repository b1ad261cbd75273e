"""Encoding: which tokens are what, and that answers are scored as generation would score them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from corelib.bridge import language
from corelib.core.errors import BadInput, BadRegion, UnknownName
from corelib.models.batch import ROWS
from corelib.models.load import load
from corelib.tasks import DOMAINS, TASKS, Box, task


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
