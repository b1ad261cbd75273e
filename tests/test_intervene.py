"""Interventions do what they say, to the heads and rows they name, and nothing else."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from tiny import FAMILIES, HEAD_DIM, HEADS, LAYERS, tiny_inputs, tiny_model

from corelib.attention.head_outputs import expand_means, head_outputs, mean_outputs, resampled
from corelib.attention.interface import attention_modules, running
from corelib.attention.intervene import ablate, knockout
from corelib.attention.record import record
from corelib.core.errors import BadInput, UnknownName
from corelib.core.heads import Head, HeadSet
from corelib.models.batch import POSITION_KINDS
from corelib.tasks import task

SOME = HeadSet("L0H2 L1H0 L1H5")
ALL = HeadSet.all(LAYERS, HEADS)


def outputs(model, inputs):
    """What the heads hand to o_proj: one [batch, query, head, dim] a layer, and the logits."""
    seen = []

    def hook(module, arguments):
        seen.append(arguments[0].unflatten(-1, (HEADS, HEAD_DIM)))

    handles = [module.o_proj.register_forward_pre_hook(hook) for module in attention_modules(model)]
    logits = model(**inputs).logits
    for handle in handles:
        handle.remove()
    return seen, logits


def masks(inputs, keys, rows):
    hidden, marked = (torch.zeros_like(inputs["input_ids"], dtype=torch.bool) for _ in range(2))
    hidden[:, keys] = marked[:, rows] = True
    return hidden, marked


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_ablated_heads_say_nothing(family):
    model, inputs = tiny_model(family), tiny_inputs(family)
    before, logits = outputs(model, inputs)
    with ablate(model, SOME):
        after, changed = outputs(model, inputs)
    for layer in range(LAYERS):
        silent = [head.index for head in SOME if head.layer == layer]
        assert after[layer][:, :, silent].abs().sum() == 0
        others = [head for head in range(HEADS) if head not in silent]
        assert (after[layer][:, -1, others].abs().sum(-1) > 0).all()
    assert torch.equal(after[0][:, :, [0, 1, 3, 4, 5]], before[0][:, :, [0, 1, 3, 4, 5]])  # the first layer's others
    assert not torch.equal(changed, logits)
    assert torch.equal(outputs(model, inputs)[1], logits)


@torch.no_grad()
def test_ablating_nothing_and_everything():
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")
    _, logits = outputs(model, inputs)
    with ablate(model, HeadSet()):
        assert torch.equal(outputs(model, inputs)[1], logits)
    with ablate(model, ALL):
        assert sum(layer.abs().sum() for layer in outputs(model, inputs)[0]) == 0
    with ablate(model, HeadSet("L0H0")), ablate(model, ALL - HeadSet("L0H0")):
        assert sum(layer.abs().sum() for layer in outputs(model, inputs)[0]) == 0


@torch.no_grad()
def test_without_its_heads_a_layer_s_attention_is_gone():
    """All heads of layer 1 ablated: what is added to the residual stream there is `o_proj` of nothing."""
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")
    module, added = attention_modules(model)[1], []
    handle = module.register_forward_hook(lambda module, arguments, out: added.append(out[0]))
    with ablate(model, HeadSet((1, head) for head in range(HEADS))):
        removed = model(**inputs).logits
    handle.remove()
    assert added[0].abs().sum() == 0
    handle = module.register_forward_hook(lambda module, arguments, out: (torch.zeros_like(out[0]), *out[1:]))
    assert torch.equal(model(**inputs).logits, removed)
    handle.remove()


@pytest.mark.parametrize("change", ["ablate", "knockout"])
@torch.no_grad()
def test_each_sample_may_have_heads_of_its_own(change):
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")
    hidden, marked = masks(inputs, slice(4, 7), slice(-3, None))
    sets = [HeadSet("L0H2"), HeadSet("L1H0 L1H5")]

    def under(heads):
        program = ablate(model, heads) if change == "ablate" else knockout(model, hidden, marked, heads)
        with program:
            return model(**inputs).logits

    together, plain = under(sets), model(**inputs).logits
    for number, one in enumerate(sets):
        torch.testing.assert_close(together[number], under(one)[number], atol=1e-6, rtol=0)
        assert (together[number] - plain[number]).abs().max() > 1e-5
    torch.testing.assert_close(under([HeadSet(), sets[1]])[0], plain[0], atol=1e-6, rtol=0)


@torch.no_grad()
def test_only_the_marked_rows_are_ablated():
    model, inputs = tiny_model("internvl"), tiny_inputs("internvl")
    before, _ = outputs(model, inputs)
    _, marked = masks(inputs, slice(0, 0), slice(10, 12))
    with ablate(model, HeadSet("L0H2"), rows=marked):
        after, _ = outputs(model, inputs)
    changed = (after[0] != before[0]).any(-1)
    assert changed[:, 10:12, 2].all() and changed.sum() == changed[:, 10:12, 2].sum()
    assert after[0][:, 10:12, 2].abs().sum() == 0
    # What happens at a row never reaches the rows before it.
    assert torch.equal(after[1][:, :10], before[1][:, :10]) and not torch.equal(after[1][:, 10:], before[1][:, 10:])


@torch.no_grad()
def test_prefill_and_decode_are_ablated_apart():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    step = torch.tensor([[7], [8]])
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(step)], 1)
    longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], step], 1), "attention_mask": mask}
    last = torch.zeros_like(longer["input_ids"], dtype=torch.bool)
    last[:, -1] = True

    def stepped(**options):
        with ablate(model, SOME, **options):
            cache = model(**inputs).past_key_values
            return model(input_ids=step, attention_mask=mask, past_key_values=cache).logits[:, -1]

    def whole(rows):
        with ablate(model, SOME, rows=rows):
            return model(**longer).logits[:, -1]

    for phase, rows in (("prefill", ~last), ("decode", last), (None, torch.ones_like(last))):
        torch.testing.assert_close(stepped(rows=phase), whole(rows), atol=1e-5, rtol=0)
        torch.testing.assert_close(stepped(rows=rows), whole(rows), atol=1e-5, rtol=0)
    assert (stepped(rows="prefill") - stepped(rows="decode")).abs().max() > 1e-5


@torch.no_grad()
def test_heads_say_what_they_say_elsewhere_or_on_average():
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")
    before, logits = outputs(model, inputs)
    with head_outputs(model) as found:
        model(**inputs)
    assert all(torch.equal(found[layer], before[layer]) for layer in range(LAYERS))
    with ablate(model, SOME, replacement=found):  # what they say anyway
        torch.testing.assert_close(outputs(model, inputs)[1], logits)
    with ablate(model, SOME, replacement=resampled(found)):
        after, _ = outputs(model, inputs)
    assert torch.equal(after[0][0, :, 2], before[0][1, :, 2]) and torch.equal(after[0][1, :, 2], before[0][0, :, 2])
    assert torch.equal(after[0][:, :, 3], before[0][:, :, 3])

    kinds = torch.zeros_like(inputs["input_ids"])
    kinds[:, 5:] = 1
    means = mean_outputs([(found, kinds), (found, kinds)], 3)
    by_hand = before[0][:, 5:, 2].mean((0, 1))
    torch.testing.assert_close(means[0][1, 2], by_hand)
    assert means[0][2].abs().sum() == 0  # a kind that does not occur
    with ablate(model, SOME, replacement=expand_means(means, kinds)):
        after, _ = outputs(model, inputs)
    torch.testing.assert_close(after[0][:, 5:, 2], by_hand.expand_as(after[0][:, 5:, 2]))
    with head_outputs(model, layers=[1]) as found:
        model(**inputs)
    assert list(found) == [1]
    for order in ([0, 1], [1], [1, 1]):
        with pytest.raises(BadInput, match="none in its own place"):
            resampled(found, order)
    with pytest.raises(BadInput, match="nothing was recorded"):
        mean_outputs([], 3)


def test_every_position_is_of_one_kind(vlm):
    encoded = vlm.encode(task("documents").samples("select", 0, 2))
    names = [[POSITION_KINDS[kind] for kind in row] for row in encoded.position_kinds.tolist()]
    for row, visual, real in zip(names, encoded.visual, encoded.real, strict=True):
        assert [name == "visual" for name in row] == visual.tolist()
        assert [name != "padding" for name in row] == real.tolist()
        assert row.count("last") == 1 and row.count("answer") == encoded.rows("answer")[0].sum() - 1
        assert row[row.index("last") - 1] == "question" and row[row.index("last") + 1] == "answer"


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_blind_rows_are_renormalised(family):
    """What a blind head sees is its own attention with the hidden keys cut out, scaled back to 1."""
    model, inputs = tiny_model(family), tiny_inputs(family)
    hidden, marked = masks(inputs, slice(4, 7), slice(-2, None))
    with record(model, marked) as plain:
        model(**inputs)
    with knockout(model, hidden, marked, HeadSet("L0H2")), record(model, marked) as recorded:
        model(**inputs)
    expected = plain.attention[0].clone()
    expected[:, 2, :, 4:7] = 0
    expected /= expected.sum(-1, keepdim=True)
    torch.testing.assert_close(recorded.attention[0], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_blind_touches_only_the_rows_and_heads_it_names():
    model, inputs = tiny_model("internvl"), tiny_inputs("internvl")
    before, _ = outputs(model, inputs)
    hidden, marked = masks(inputs, slice(4, 7), slice(10, 12))
    with knockout(model, hidden, marked, SOME):
        after, _ = outputs(model, inputs)
    touched = (after[0] - before[0]).abs().amax(-1) > 1e-5  # [batch, query, head], first layer
    expected = torch.zeros_like(touched)
    expected[:, 10:12, 2] = True
    assert torch.equal(touched, expected)


@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_blind_never_shows_the_future(batch):
    """Without padding there is no mask at all: hiding keys must not turn causality off."""
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm", batch=batch, padding=0)
    hidden, marked = masks(inputs, slice(4, 7), slice(None))
    for heads in (None, SOME, ALL):
        with knockout(model, hidden, marked, heads), record(model, marked) as recorded:
            model(**inputs)
        assert recorded.stack().triu(1).abs().sum() == 0


@torch.no_grad()
def test_a_row_with_no_key_left_outputs_zero():
    model, inputs = tiny_model("qwen2_5_vl"), tiny_inputs("qwen2_5_vl")
    hidden, marked = masks(inputs, slice(None), slice(-2, None))
    for heads, silent in ((None, list(range(HEADS))), (HeadSet("L0H2"), [2])):
        with knockout(model, hidden, marked, heads):
            after, logits = outputs(model, inputs)
        assert after[0][:, -2:, silent].abs().sum() == 0
        assert after[0][0, :-2].abs().sum() > 0
        assert logits.isfinite().all()


@torch.no_grad()
def test_that_zero_is_ours_and_not_the_kernel_s():
    """Kernels differ in what a row without keys gives; and rows that nobody marked are left alone, padding too."""
    model, inputs = tiny_model("qwen2_5_vl"), tiny_inputs("qwen2_5_vl")
    hidden, marked = masks(inputs, slice(None), slice(-2, None))
    with knockout(model, hidden, marked), running(model, lambda call, inner: torch.ones_like(inner(call))):
        after, _ = outputs(model, inputs)
    assert after[0][:, -2:].abs().sum() == 0
    assert (after[0][:, :-2] == 1).all()


@torch.no_grad()
def test_blind_to_nothing_is_the_model():
    model, inputs = tiny_model("llava_onevision"), tiny_inputs("llava_onevision")
    _, logits = outputs(model, inputs)
    hidden, marked = masks(inputs, slice(0, 0), slice(-2, None))
    with knockout(model, hidden, marked):
        torch.testing.assert_close(outputs(model, inputs)[1], logits)
    with knockout(model, ~hidden, hidden):  # no row is marked
        assert torch.equal(outputs(model, inputs)[1], logits)


@pytest.mark.parametrize("heads", [None, SOME])
@torch.no_grad()
def test_blind_with_a_cache_is_blind_without(heads):
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    length = inputs["input_ids"].shape[1]
    step = torch.tensor([[7], [8]])
    longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], step], 1)}
    longer["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(step)], 1)
    hidden, marked = masks(longer, slice(4, 7), slice(length - 1, None))
    with knockout(model, hidden, marked, heads):
        expected = model(**longer).logits[:, -1]
        cache = model(**inputs).past_key_values
        mask = longer["attention_mask"]
        stepped = model(input_ids=step, attention_mask=mask, past_key_values=cache).logits[:, -1]
    torch.testing.assert_close(stepped, expected, atol=1e-5, rtol=0)
    assert (expected - model(**longer).logits[:, -1]).abs().max() > 1e-4


WRITTEN = {"text": "L0H2 L1H0 L1H5", "names": ["L0H2", "L1H0", "L1H5"], "pairs": [(0, 2), (1, 0), (1, 5)]}
WRITTEN |= {"heads": tuple(SOME), "any order": (name for name in ("L1H5", "L0H2", "L1H0"))}


@pytest.mark.parametrize("heads", WRITTEN.values(), ids=WRITTEN)
@torch.no_grad()
def test_heads_may_be_written_as_one_writes_them(heads):
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    with ablate(model, SOME):
        wanted = model(**inputs).logits
    with ablate(model, heads):
        assert torch.equal(model(**inputs).logits, wanted)
    with ablate(model, Head(0, 2)), ablate(model, "L1H0"), ablate(model, ["L1H5"]):
        assert torch.equal(model(**inputs).logits, wanted)


@torch.no_grad()
def test_positions_may_be_numbers():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    hidden, rows = masks(inputs, [4, 5], [-2, -1])
    for first, second in (
        (ablate(model, SOME, rows=rows), ablate(model, SOME, rows=[-2, -1])),
        (knockout(model, hidden, rows), knockout(model, [[4, 5]] * 2, torch.tensor([14, 15]))),
    ):
        with first:
            wanted = model(**inputs).logits
        with second:
            assert torch.equal(model(**inputs).logits, wanted)


@pytest.mark.parametrize("heads", [None, 3, "L0", "nonsense", [SOME, "L0H0 L1H1"], [1, 2], [[0]], SOME.by_layer()])
def test_what_are_no_heads_is_refused(heads):
    model = tiny_model("smolvlm")
    with pytest.raises(BadInput) if heads != [SOME, "L0H0 L1H1"] else nullcontext(), ablate(model, heads):
        pass


@pytest.mark.parametrize("rows", [torch.ones(2, 16), [1.5], object(), True])
def test_what_are_no_positions_is_refused(rows):
    model = tiny_model("smolvlm")
    for context in (
        lambda: ablate(model, SOME, rows=rows),
        lambda: knockout(model, rows, -1),
        lambda: knockout(model, -1, rows),
    ):
        with pytest.raises(BadInput, match="boolean mask"), context():
            pass


def test_what_does_not_exist_is_refused():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    hidden, marked = masks(inputs, [4], [9])
    with pytest.raises(BadInput, match="L2H0: the model has layers 0–1 with heads 0–5"):
        ablate(model, HeadSet("L2H0")).__enter__()
    with pytest.raises(BadInput, match="L0H6"):
        knockout(model, hidden, marked, HeadSet("L0H6")).__enter__()
    with pytest.raises(UnknownName, match="'prefill'"):
        ablate(model, SOME, rows="prefil").__enter__()
    with pytest.raises(BadInput, match=r"layers \[1\]"):
        ablate(model, SOME, replacement={0: torch.zeros(1, 1, HEADS, HEAD_DIM)}).__enter__()
    with pytest.raises(BadInput, match="3 head sets for a batch of 2"), ablate(model, [SOME] * 3):
        model(**inputs)
    with pytest.raises(BadInput, match="3 head sets for a batch of 2"), knockout(model, hidden, marked, [SOME] * 3):
        model(**inputs)
    short = dict.fromkeys(range(LAYERS), torch.zeros(2, 3, HEADS, HEAD_DIM))
    with pytest.raises(BadInput, match="replacement of layer 0"), ablate(model, SOME, replacement=short):
        model(**inputs)
    with pytest.raises(BadInput, match="boolean"):
        knockout(model, hidden.int(), marked).__enter__()
    with pytest.raises(BadInput, match="whole prompt"), knockout(model, hidden, marked[:, :-1]):
        model(**inputs)
    with pytest.raises(BadInput, match="whole prompt"), knockout(model, hidden[:, :-1], marked):
        model(**inputs)
    assert model.config.text_config._attn_implementation == "sdpa"


@torch.no_grad()
def test_the_published_mistake():
    """Zeroing queries is not an ablation: the head becomes a uniform average, and its output is far from zero."""
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")

    def zero_queries(call, inner):
        return inner(replace(call, query=call.query * 0))

    with running(model, zero_queries):
        after, _ = outputs(model, inputs)
    assert (after[0][0].abs().sum((-1, 0)) > 0).all()
