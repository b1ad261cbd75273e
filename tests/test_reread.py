"""Reading the question again gives the numbers of whole passes."""

from __future__ import annotations

import pytest
import torch

from corelib.attention.intervene import ablate, knockout
from corelib.core.heads import HeadSet
from corelib.models.load import load
from corelib.replay.from_question import replay_from_question, whole_pass
from corelib.tasks import task

SOME = HeadSet("L1H0 L3H2 L4H0 L4H1 L4H5")


@pytest.mark.parametrize("domain", ["scenes", "documents", "video", "needle"])
@pytest.mark.parametrize("count", [1, 6])
def test_it_is_a_whole_pass(vlm, domain, count):
    encoded = vlm.encode(task(domain).samples("select", 0, count))
    answer = replay_from_question(vlm, encoded)
    for hidden in (encoded.evidence, encoded.source):
        for heads in (None, SOME, HeadSet()):
            with knockout(vlm.model, hidden, encoded.after_image, heads):
                _same(answer(), whole_pass(vlm, encoded))
    with ablate(vlm.model, SOME, rows=encoded.after_image):
        _same(answer(), whole_pass(vlm, encoded))
    plain = whole_pass(vlm, encoded)
    _same(answer(), plain)
    with knockout(vlm.model, encoded.source, encoded.after_image):
        assert (answer().logprob - plain.logprob).abs().max() > 0.1  # the programs do reach it


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["scenes", "documents"])
def test_the_bridge_too(domain):
    bridge = load("bridge")
    encoded = bridge.encode(task(domain).samples("select", 0, 3))
    answer = replay_from_question(bridge, encoded)
    with knockout(bridge.model, encoded.evidence, encoded.after_image):
        _same(answer(), whole_pass(bridge, encoded))


def test_what_cannot_be_taken_apart_runs_as_a_whole(vlm, monkeypatch):
    encoded = vlm.encode(task("scenes").samples("select", 0, 2))
    monkeypatch.setattr("corelib.replay.recorder.PARTS", {"experts"})
    _same(replay_from_question(vlm, encoded)(), whole_pass(vlm, encoded))


def _same(one, two):
    assert torch.equal(one.correct, two.correct)
    torch.testing.assert_close(one.logprob, two.logprob, atol=2e-5, rtol=1e-5)
