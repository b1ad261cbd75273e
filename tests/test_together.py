"""Many questions behind the same pictures: the answers of whole passes, one look at the pictures."""

from __future__ import annotations

import pytest
import torch

from corelib import HeadSet, load
from corelib.attention.intervene import ablate
from corelib.core.errors import BadInput
from corelib.replay.prefix_cache import cached_image_features, replay_from_prefix
from corelib.sparse import Window, sparsify
from corelib.tasks import task


@pytest.fixture(scope="module", params=["mini-s", pytest.param("bridge", marks=pytest.mark.slow)])
def some(request):
    return load(request.param)


@pytest.mark.parametrize(
    ("domain", "difficulty"), [("documents", {"pages": 3}), ("scenes", {"relational": 0.5}), ("video", {})]
)
def test_it_is_what_whole_passes_say(some, domain, difficulty):
    questions = 6 if some.name == "mini-s" else 3
    encoded = some.encode(task(domain, **difficulty).questions_for("test", 0, 1, questions))
    assert len(set(encoded.lengths.sum(1).tolist())) > 1 or domain != "video"  # questions of different lengths
    answer = replay_from_prefix(some, encoded)
    heads = HeadSet("L1H0 L3H2")
    for program in (
        lambda: ablate(some.model, HeadSet()),
        lambda: ablate(some.model, heads),
        lambda: sparsify(some.model, heads, Window(12, 4)),
    ):
        with program():
            found = answer()
            plain = some.answer(encoded)
        assert torch.equal(found.correct, plain.correct)
        torch.testing.assert_close(found.logprob, plain.logprob, atol=1e-4, rtol=1e-4)


def test_pictures_are_looked_at_once(vlm):
    encoded, looks = vlm.encode(task("scenes").questions_for("test", 0, 0, 3)), []
    tower = vlm.model.model.visual
    handle = tower.register_forward_pre_hook(lambda *given: looks.append(1))
    try:
        answer = replay_from_prefix(vlm, encoded)
        first, again = answer(), answer()
    finally:
        handle.remove()
    assert len(looks) == 1 and torch.equal(first.logprob, again.logprob)
    with cached_image_features(vlm.model, {}):
        assert "get_image_features" in vars(vlm.model.model)
    assert "get_image_features" not in vars(vlm.model.model)


def test_several_pictures_are_refused(vlm):
    encoded = vlm.encode(task("scenes").samples("test", 0, 2))
    with pytest.raises(BadInput, match="several pictures"):
        replay_from_prefix(vlm, encoded)
