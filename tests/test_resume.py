"""Going on from a layer gives the numbers of whole passes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from corelib.attention.intervene import ablate
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.replay.from_layer import replay_from_layer
from corelib.replay.residual_cache import residual_cache
from corelib.replay.shared_prefix import share_prefix
from corelib.tasks import task

LAYERS = HeadSet((layer, head) for layer in (1, 2, 3) for head in range(8))
SETS = [
    HeadSet(),
    LAYERS,
    HeadSet("L0H3"),
    HeadSet("L5H0"),
    HeadSet("L2H1 L2H4 L4H0"),
    HeadSet("L0H0 L5H7"),
    HeadSet("L4H1"),
]


@pytest.mark.parametrize("domain", ["scenes", "documents", "video", "needle"])
def test_it_is_a_whole_pass_under_ablate(vlm, domain):
    encoded = vlm.encode(task(domain).samples("select", 0, 6))
    found = replay_from_layer(residual_cache(vlm, encoded), SETS, batch_size=12)
    for number, heads in enumerate(SETS):
        with ablate(vlm.model, heads):
            whole = vlm.answer(encoded)
        torch.testing.assert_close(found.logprob[number], whole.logprob, atol=1e-5, rtol=1e-5)
        assert torch.equal(found.correct[number], whole.correct)
    assert (found.logprob[1] - found.logprob[0]).abs().max() > 1e-3
    again = replay_from_layer(residual_cache(vlm, encoded), SETS, batch_size=1000)
    torch.testing.assert_close(again.logprob, found.logprob, atol=1e-5, rtol=1e-5)


def test_in_double_precision_only_the_last_rounding_is_left(vlm):
    """What whole passes and restarted ones differ by in float32 is rounding, and nothing else: with twice the digits it
    is gone, down to the logits' own float32."""
    precise = replace(vlm, model=deepcopy(vlm.model).double())
    encoded = precise.encode([one for k in range(2) for one in task("scenes").questions_for("select", 0, k, 2)])
    every = [HeadSet([head]) for head in HeadSet.all(vlm.num_layers, vlm.num_heads)]
    found = replay_from_layer(share_prefix(residual_cache(precise, encoded), encoded), every)
    for number, heads in enumerate(every):
        with ablate(precise.model, heads):
            torch.testing.assert_close(found.logprob[number], precise.answer(encoded).logprob, atol=1e-6, rtol=1e-6)


def test_one_sample_alone(vlm):
    encoded = vlm.encode(task("scenes").samples("select", 0, 1))
    found = replay_from_layer(residual_cache(vlm, encoded), SETS)
    for number, heads in enumerate(SETS):
        with ablate(vlm.model, heads):
            torch.testing.assert_close(found.logprob[number], vlm.answer(encoded).logprob, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("domain", ["scenes", "documents", "video", "needle"])
def test_a_shared_prefix_changes_no_number(vlm, domain):
    work = task(domain)
    drawn = [
        sample for index, count in ((0, 3), (1, 1), (2, 2)) for sample in work.questions_for("select", 0, index, count)
    ]
    drawn = [drawn[k] for k in (5, 0, 3, 1, 4, 2)]  # in any order
    encoded = vlm.encode(drawn)
    kept = residual_cache(vlm, encoded)
    folded = share_prefix(kept, encoded)
    assert len(folded.resid_pre) == 3 and folded.sequence.tolist() == [0, 1, 2, 1, 0, 1]
    one, two = replay_from_layer(kept, SETS), replay_from_layer(folded, SETS)
    torch.testing.assert_close(two.logprob, one.logprob, atol=1e-5, rtol=1e-5)
    assert torch.equal(two.correct, one.correct)


def test_what_has_no_common_prefix_is_not_folded(vlm):
    encoded = vlm.encode(task("scenes").samples("select", 0, 3))
    kept = residual_cache(vlm, encoded)
    assert share_prefix(kept, encoded) is kept
    with pytest.raises(BadInput, match="trace is of 3 samples"):
        share_prefix(kept, vlm.encode(task("scenes").samples("select", 0, 2)))


def test_bad_sets_are_refused_and_the_model_is_as_before(vlm):
    encoded = vlm.encode(task("scenes").samples("select", 0, 2))
    plain = vlm.answer(encoded).logprob
    kept = residual_cache(vlm, encoded)
    for sets, says in (([], "no set of heads"), ([HeadSet("L9H0")], "L9H0")):
        with pytest.raises(BadInput, match=says):
            replay_from_layer(kept, sets)
    assert torch.equal(vlm.answer(encoded).logprob, plain)
    assert not vlm.model.model.language_model.norm._forward_pre_hooks
