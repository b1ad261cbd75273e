"""Looking: maps fit the pictures, the chosen heads are the pointed ones, and all of a row is accounted for."""

from __future__ import annotations

import pytest
import torch

from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.families.bundled import Mini
from corelib.mini.architecture import SIZES, build_mini
from corelib.mini.processing import MiniProcessor
from corelib.mini.vocabulary import build_tokenizer
from corelib.models.attention_map import last_row_attention, map_attention
from corelib.models.vlm import VLM
from corelib.tasks import task


@pytest.fixture(scope="module")
def vlm():
    """An untrained model: what is tested here does not depend on what it knows."""
    torch.set_num_threads(1)
    model = build_mini(SIZES["mini-s"], seed=0).eval()
    return VLM("untrained", model, Mini(model.config, MiniProcessor(build_tokenizer())))


SMALL = {"scenes": {"objects": 4}, "documents": {"pages": 2, "fields": 2}, "video": {"frames": 2}}


@pytest.mark.parametrize(("domain", "shape"), [("scenes", (6, 6)), ("documents", (2, 6)), ("video", (3, 3))])
def test_every_picture_has_its_map(vlm, domain, shape):
    sample = task(domain, **SMALL[domain]).sample("validate", 0, 0)
    seen = map_attention(vlm, sample.images, sample.question, video=sample.video)
    assert [tuple(one.shape) for one in seen.maps] == [shape] * len(sample.images)
    assert 0 < seen.visual < 1
    assert len(seen.heads) == 3


def test_the_maps_are_the_attention_of_the_heads(vlm):
    sample = task("documents", **SMALL["documents"]).sample("validate", 0, 0)
    encoded = vlm.encode([sample], answers=False)
    attention = last_row_attention(vlm, encoded)[:, 0]
    torch.testing.assert_close(attention.sum(-1), torch.ones(vlm.num_layers, vlm.num_heads))
    heads = HeadSet("L1H2 L3H0")
    seen = map_attention(vlm, sample.images, sample.question, heads=heads)
    expected = (attention[1, 2] + attention[3, 0])[encoded.visual[0]] / 2
    torch.testing.assert_close(torch.cat([one.flatten() for one in seen.maps]), expected)


def test_the_default_heads_are_the_most_pointed(vlm):
    sample = task("scenes").sample("validate", 0, 0)
    encoded = vlm.encode([sample], answers=False)
    peak = last_row_attention(vlm, encoded)[:, 0][..., encoded.visual[0]].amax(-1)
    seen = map_attention(vlm, sample.images, sample.question)
    chosen = torch.tensor([peak[head.layer, head.index] for head in seen.heads])
    torch.testing.assert_close(chosen.sort(descending=True).values, peak.flatten().sort(descending=True).values[:3])


@pytest.mark.parametrize("heads", [HeadSet(), HeadSet("L6H0")])
def test_heads_that_do_not_exist_are_refused(vlm, heads):
    sample = task("scenes").sample("validate", 0, 0)
    with pytest.raises(BadInput):
        map_attention(vlm, sample.images, sample.question, heads=heads)


def test_no_picture_is_refused(vlm):
    with pytest.raises(BadInput, match="picture"):
        map_attention(vlm, [], "digit on red square ?")
