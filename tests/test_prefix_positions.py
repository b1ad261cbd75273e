"""Positions behind a kept prefix are those of a whole pass, whatever the model was asked before."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from corelib import load, task
from corelib.families import tiny
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.prefix_cache import replay_from_prefix

MODELS = ("mini-s", *tiny.tiny_names())
DRAWN = {  # one picture, several, a clip, text only
    "picture": ("scenes", {}),
    "pictures": ("documents", {"pages": 3}),
    "clip": ("video", {}),
    "text": ("needle", {}),
}


@pytest.fixture(scope="module", params=MODELS)
def some(request) -> VLM:
    return load(request.param)


def questions(vlm: VLM, kind: str, count: int = 3) -> Batch:
    domain, difficulty = DRAWN[kind]
    return vlm.encode(task(domain, **difficulty).questions_for("test", 0, 1, count))


@pytest.mark.parametrize("before", [None, "picture", "clip"])
@pytest.mark.parametrize("kind", DRAWN)
def test_positions_are_those_of_whole_passes(some, kind, before):
    batch = questions(some, kind)
    answer = replay_from_prefix(some, batch)
    whole = some.answer(batch)
    if before:  # another batch, of another size
        some.answer(some.encode(task(DRAWN[before][0]).samples("select", 1, 2)))
    for _ in range(2):
        found = answer()
        torch.testing.assert_close(found.logprob, whole.logprob, atol=2e-4, rtol=2e-4)
        assert torch.equal(found.correct, whole.correct)


@pytest.mark.parametrize("name", ["tiny-random:qwen3-vl", "tiny-random:qwen2.5-vl"])
def test_no_state_is_left_in_the_model(name):
    """What a pass behind a prefix computes with is handed over, not left on the model for the next caller."""
    vlm = load(name)
    assert vlm.model.model.rope_deltas is None
    replay_from_prefix(vlm, questions(vlm, "clip"))()
    assert vlm.model.model.rope_deltas is None


def test_whole_passes_and_generation_forget_earlier_ones_too():
    vlm = load("tiny-random:qwen2.5-vl")
    text = questions(vlm, "text")
    asked = vlm.encode(text.samples, answers=False)
    fresh, said = vlm.answer(text).logprob, vlm.generate(asked, 3)
    vlm.answer(questions(vlm, "clip", 2))
    vlm.ask([Image.new("RGB", (64, 64))], "What is it?", tokens=2)
    assert torch.equal(vlm.answer(text).logprob, fresh) and vlm.generate(asked, 3) == said
