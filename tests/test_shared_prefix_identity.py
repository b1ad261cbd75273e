"""Samples share a prefix only where their pictures are the same: compared by content, never assumed from a name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from corelib import HeadSet, Sample, task
from corelib.core.errors import BadInput
from corelib.replay.from_layer import replay_from_layer
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.replay.residual_cache import residual_cache
from corelib.replay.shared_prefix import share_prefix


def own(image: Image.Image, question: str = "digit on red square ?", answer: str = "3") -> Sample:
    """A question of one's own with an answer that can be scored."""
    return replace(Sample.of([image], question), answer=answer)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [task("scenes").sample("test", 0, index).images[0] for index in range(2)]


def test_own_questions_about_two_pictures_are_told_apart(vlm, pictures):
    batch = vlm.encode([own(image) for image in pictures])
    whole = vlm.answer(batch).logprob
    assert (whole[0] - whole[1]).abs() > 0.1  # whole passes see two pictures
    with pytest.raises(BadInput, match="several pictures"):
        replay_from_prefix(vlm, batch)
    kept = residual_cache(vlm, batch)
    found = replay_from_layer(share_prefix(kept, batch), [HeadSet()])
    torch.testing.assert_close(found.logprob[0], whole, atol=1e-5, rtol=1e-5)


def test_own_questions_about_one_picture_share_it_though_it_was_opened_twice(vlm, pictures):
    batch = vlm.encode([own(pictures[0]), own(pictures[0].copy(), "digit on blue star ?", "5")])
    whole = vlm.answer(batch).logprob
    torch.testing.assert_close(replay_from_prefix(vlm, batch)().logprob, whole, atol=1e-4, rtol=1e-4)
    folded = share_prefix(residual_cache(vlm, batch), batch)
    assert folded.sequence.tolist() == [0, 0]
    torch.testing.assert_close(replay_from_layer(folded, [HeadSet()]).logprob[0], whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("domain", ["scenes", "needle"])
def test_one_name_for_two_contents_is_two_clusters(vlm, domain):
    """Two difficulties, or two folders, give the same domain, split, seed and index to different pictures."""
    first, second = task(domain).samples("select", 0, 2)
    second = replace(second, index=0)
    batch = vlm.encode([first, second])
    assert first.cluster != second.cluster
    kept = residual_cache(vlm, batch)
    assert share_prefix(kept, batch) is kept
    with pytest.raises(BadInput, match="several pictures"):
        replay_from_prefix(vlm, batch)


@pytest.mark.parametrize("domain", ["scenes", "documents", "video", "needle"])
def test_questions_about_one_picture_are_one_cluster(domain):
    asked = task(domain).questions_for("test", 0, 0, 3)
    assert len({sample.cluster for sample in asked}) == 1
    again = task(domain).questions_for("test", 0, 0, 3)[0]  # drawn anew: other objects, the same content
    assert again.cluster == asked[0].cluster != task(domain).sample("test", 0, 1).cluster


def test_what_the_digest_knows_of_a_picture():
    plain = Image.new("RGB", (8, 4), (1, 2, 3))
    other = plain.copy()
    other.putpixel((7, 3), (1, 2, 4))
    indexed, recoloured = (Image.new("P", (8, 4), 0) for _ in range(2))
    indexed.putpalette([0, 0, 0])
    recoloured.putpalette([255, 0, 0])
    some = [plain, other, plain.resize((4, 8)), plain.convert("L"), indexed, recoloured]
    names = [own(image).cluster for image in some]
    assert len(set(names)) == len(names)
    assert own(plain.copy()).cluster == names[0]
    two = Sample.of([plain, other], "digit on red square ?")
    assert two.cluster != replace(two, images=(other, plain)).cluster  # their order counts
    assert two.cluster != replace(two, video=True).cluster  # and whether they are a clip


def test_a_digest_is_not_computed_before_it_is_asked_for(monkeypatch):
    looks = []
    monkeypatch.setattr(Image.Image, "tobytes", lambda self, *_: looks.append(1) or b"")
    sample = own(Image.new("RGB", (8, 4)))
    assert not looks
    assert sample.cluster == sample.cluster and len(looks) == 1


def test_a_prefix_whose_tokens_differ_is_refused(vlm):
    batch = vlm.encode(task("scenes").questions_for("test", 0, 0, 2))
    tokens = batch.tokens.clone()
    first = int(batch.real[1].int().argmax())
    tokens[1, first] = tokens[1, -1]
    strange = replace(batch, inputs={**batch.inputs, "input_ids": tokens})
    with pytest.raises(BadInput, match="do not begin alike"):
        share_prefix(residual_cache(vlm, strange), strange)
    with pytest.raises(BadInput, match="do not begin alike"):
        replay_from_prefix(vlm, strange)
