"""Windows as masks: the numbers of `sparsify`, with gradients, and in parts."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_model

from corelib.attention.record import record
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.sparse import Window, sparsify
from corelib.sparse.masked import masked_window
from corelib.tasks import task

WINDOW = Window(8, sinks=3)
DENSE = HeadSet("L2H4 L3H0")


@pytest.fixture(scope="module")
def batch(vlm):
    """Prompts of several lengths: some are padded."""
    work = task("documents", pages=2)
    return vlm.encode([*work.samples("test", 0, 2), *task("scenes").samples("test", 0, 2)])


def test_it_is_what_sparsify_computes(vlm, batch):
    assert not batch.real.all()
    with torch.no_grad():
        with sparsify(vlm.model, DENSE, WINDOW):
            expected = vlm.model(**batch.inputs).logits[batch.real]
        with masked_window(vlm.model, DENSE, WINDOW):
            found = vlm.model(**batch.inputs).logits[batch.real]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(found, vlm.model(**batch.inputs).logits[batch.real], atol=1e-2)


def test_with_a_cache(vlm):
    several = vlm.encode(task("documents").questions_for("test", 0, 0, 3))
    answer = replay_from_prefix(vlm, several)
    with sparsify(vlm.model, DENSE, WINDOW):
        expected = answer()
    with masked_window(vlm.model, DENSE, WINDOW):
        torch.testing.assert_close(answer().logprob, expected.logprob, rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_masked_eager_attention():
    """transformers' own eager attention, given the same mask for all heads."""
    model, words = tiny_model("smolvlm"), torch.arange(5, 29)[None]
    places = torch.arange(24)
    mask = torch.zeros(1, 1, 24, 24).masked_fill(~WINDOW.seen(places[:, None], places), torch.finfo(torch.float32).min)
    model.zero_grad()
    model.set_attn_implementation("eager")
    model(input_ids=words, attention_mask=mask).logits.square().mean().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with masked_window(model, "", WINDOW):
        model(input_ids=words).logits.square().mean().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-3, atol=1e-6, msg=name)


def looks(model, words, **options):
    with torch.no_grad(), masked_window(model, "L1H0", Window(2, sinks=1), **options):
        with record(model, rows=torch.ones(1, words.shape[1], dtype=torch.bool)) as recorded:
            model(input_ids=words)
        return recorded.stack()[:, 0] > 0  # [layer, head, row, key]


def test_only_some_rows_are_short_sighted():
    model, words = tiny_model("smolvlm"), torch.arange(5, 15)[None]
    whole = torch.ones(10, 10, dtype=torch.bool).tril()
    places = torch.arange(10)
    short = Window(2, sinks=1).seen(places[:, None], places)
    middle = (places >= 3) & (places < 5)
    for rows, near in (((0, None), places >= 0), ((0, 4), places < 4), ((6, None), places >= 6), ((3, 5), middle)):
        found = looks(model, words, rows=rows)
        expected = torch.where(near[:, None], short, whole)
        assert torch.equal(found[0, 0], expected) and torch.equal(found[1, 1], expected)
        assert torch.equal(found[1, 0], whole)  # dense


def test_some_keys_are_seen_by_all():
    model, words = tiny_model("smolvlm"), torch.arange(5, 15)[None]
    also = torch.zeros(7, dtype=torch.bool)
    also[[3, 6]] = True
    places = torch.arange(10)
    expected = Window(2, sinks=1).seen(places[:, None], places)
    expected[:, [3, 6]] = True
    assert torch.equal(looks(model, words, also=also)[0, 0], expected.tril())


def test_bad_input_is_refused(vlm):
    for rows in ((-1, 4), (4, 4), (4, 2)):
        with pytest.raises(BadInput, match="give a span of positions"), masked_window(vlm.model, "", WINDOW, rows=rows):
            pass
    with pytest.raises(BadInput, match="L0H9"), masked_window(vlm.model, "L0H9", WINDOW):
        pass
