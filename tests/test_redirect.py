"""Redirection against plain loops over transformers' own attention weights, and in odd but legal use."""

from __future__ import annotations

import pytest
import torch
from tiny import FAMILIES, HEADS, KV_HEADS, tiny_inputs, tiny_model
from transformers import LlamaConfig, LlamaForCausalLM

from corelib import redirect
from corelib.attention.head_outputs import head_outputs
from corelib.attention.intervene import knockout
from corelib.attention.record import record
from corelib.core.errors import BadInput, UnknownName
from corelib.core.heads import HeadSet

ROWS = [6, 8]
EVIDENCE, TARGET = [1, 2], [3, 4, 5]


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 32, "vocab_size": 31, "initializer_range": 0.3}
    config = LlamaConfig(num_hidden_layers=1, num_attention_heads=6, num_key_value_heads=2, eos_token_id=None, **sizes)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def ids():
    return torch.randint(3, 31, (2, 9), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def by_loops(model, ids, heads, parts):
    """Every head's output, [batch, row, head, dim], from eager attention and the cache's values, number by number."""
    model.set_attn_implementation("eager")
    out = model(ids, output_attentions=True, use_cache=True)
    model.set_attn_implementation("sdpa")
    attention, values = out.attentions[0], out.past_key_values.layers[0].values
    z = torch.zeros(*ids.shape, 6, 8)
    for batch in range(len(ids)):
        for row in range(ids.shape[1]):
            for head in range(6):
                weights = attention[batch, head, row].clone()
                if head in heads and row in ROWS:
                    for evidence, target in parts:
                        mass = sum(float(weights[key]) for key in evidence)
                        for key in evidence:
                            weights[key] = 0.0
                        for key in target:
                            weights[key] += mass / len(target)
                for key in range(row + 1):
                    z[batch, row, head] += weights[key] * values[batch, head // 3, key]
    return z


def masks(batch, length, parts):
    found = torch.zeros(batch, len(parts), length, dtype=torch.bool)
    for number, part in enumerate(parts):
        found[:, number, part] = True
    return found


@pytest.mark.parametrize("parts", [[(EVIDENCE, TARGET)], [([1], [3, 4]), ([2], [5])]], ids=["whole", "in parts"])
@torch.no_grad()
def test_it_is_what_loops_say(llama, ids, parts):
    away, to = (masks(2, 9, [part[k] for part in parts]) for k in (0, 1))
    with redirect(llama, "L0H1 L0H4", away, to, ROWS), head_outputs(llama) as found:
        llama(ids)
    with head_outputs(llama) as plain:
        llama(ids)
    assert torch.allclose(found[0], plain[0])  # an inner program sees what the model computed
    with head_outputs(llama) as found, redirect(llama, "L0H1 L0H4", away, to, ROWS):
        llama(ids)
    expected = by_loops(llama, ids, (1, 4), parts)
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)
    changed = (found[0] - plain[0]).abs().amax(-1) > 1e-6
    assert changed[:, ROWS][..., [1, 4]].all() and int(changed.sum()) == 2 * 2 * 2


@torch.no_grad()
def test_positions_are_given_in_any_way(llama, ids):
    ways = [
        (EVIDENCE, TARGET, ROWS),
        ([EVIDENCE, EVIDENCE], torch.tensor([TARGET, TARGET]), torch.tensor(ROWS)),
        (masks(2, 9, [EVIDENCE])[:, 0], masks(2, 9, [TARGET]), [-3, -1]),
    ]
    found = []
    for way in ways:
        with redirect(llama, [HeadSet("L0H0"), HeadSet("L0H0")], *way):
            found.append(llama(ids).logits)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert not torch.equal(found[0], llama(ids).logits)


@torch.no_grad()
def test_each_sample_has_heads_of_its_own(llama, ids):
    with redirect(llama, [HeadSet("L0H0"), HeadSet()], EVIDENCE, TARGET, ROWS):
        both = llama(ids).logits
    with redirect(llama, "L0H0", EVIDENCE, TARGET, ROWS):
        all_of_them = llama(ids).logits
    plain = llama(ids).logits
    torch.testing.assert_close(both[0], all_of_them[0])
    torch.testing.assert_close(both[1], plain[1])
    assert not torch.allclose(all_of_them[1], plain[1])


@torch.no_grad()
def test_a_sample_without_evidence_stays(llama, ids):
    away = masks(2, 9, [EVIDENCE])
    away[1] = False
    for strength in ("mass-preserving", "forced", "hidden"):
        with redirect(llama, "L0H0", away, TARGET, ROWS, strength=strength):
            found = llama(ids).logits
        plain = llama(ids).logits
        torch.testing.assert_close(found[1], plain[1])
        assert not torch.allclose(found[0], plain[0]), strength


@torch.no_grad()
def test_hidden_is_a_knockout_and_forced_sees_the_target_alone(llama, ids):
    with redirect(llama, "L0H2", EVIDENCE, TARGET, ROWS, strength="hidden"):
        hidden = llama(ids).logits
    with knockout(llama, EVIDENCE, ROWS, "L0H2"):
        torch.testing.assert_close(hidden, llama(ids).logits)
    forced = redirect(llama, "L0H2", EVIDENCE, TARGET, ROWS, strength="forced")
    with forced, record(llama, rows=list(range(9))) as recorded:
        llama(ids)
    with record(llama, rows=list(range(9))) as plain:
        llama(ids)
    seen, before = recorded.stack()[0], plain.stack()[0]  # [batch, head, row, key]
    assert torch.equal((seen[:, 2, ROWS] > 0).any((0, 1)).nonzero()[:, 0], torch.tensor(TARGET))
    torch.testing.assert_close(seen[:, 2, ROWS].sum(-1), torch.ones(2, 2))
    others = [head for head in range(6) if head != 2]
    torch.testing.assert_close(seen[:, others], before[:, others])


@torch.no_grad()
def test_padding_changes_nothing(llama, ids):
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1)
    mask = torch.ones_like(padded)
    mask[:, :3] = 0
    shifted = [[place + 3 for place in places] for places in (EVIDENCE, TARGET, ROWS)]
    with redirect(llama, "L0H0 L0H5", EVIDENCE, TARGET, ROWS):
        alone = llama(ids).logits
    with redirect(llama, "L0H0 L0H5", *shifted):
        beside = llama(padded, attention_mask=mask).logits[:, 3:]
    torch.testing.assert_close(alone, beside, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strength", ["mass-preserving", "forced", "hidden"])
@torch.no_grad()
def test_decoding_with_a_cache_is_reading_the_whole(llama, ids, strength):
    """Token by token, and what is written is read again in one pass."""
    reach = torch.ones(2, 9 + 4, dtype=torch.bool)
    reach[:, :6] = False
    with redirect(llama, "L0H0 L0H3", EVIDENCE, TARGET, reach, strength=strength):
        written = llama.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
        again = llama(written[:, :-1]).logits[:, 8:].argmax(-1)
    assert torch.equal(again, written[:, 9:])
    plain = llama.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert not torch.equal(plain, written)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_family_takes_it(family):
    model, inputs = tiny_model(family), tiny_inputs(family)
    length = inputs["input_ids"].shape[1]
    with redirect(model, HeadSet.all(2, HEADS), [length - 6], [length - 5], [-1]):
        moved = model(**inputs).logits
    changed = (moved != model(**inputs).logits).any(-1)
    assert changed[:, -1].all() and not changed[:, :-1].any() and HEADS % KV_HEADS == 0


@torch.no_grad()
def test_what_makes_no_sense_is_refused(llama, ids):
    for evidence, target, rows, options, says in (
        ([1, 2], [2, 3], ROWS, {}, "share a position"),
        (masks(2, 9, [[1], [2]]), masks(2, 9, [[3]]), ROWS, {}, "has 2 parts, the target 1"),
        (masks(2, 9, [[1], [2]]), masks(2, 9, [[3], []]), ROWS, {}, "evidence without a target"),
        (EVIDENCE, [7], ROWS, {}, "do not see the target"),
        (torch.zeros(2, 1, 9), TARGET, ROWS, {}, "give boolean masks"),
        (EVIDENCE, TARGET, ROWS, {"heads": "L0H6"}, "heads 0–5"),
        (EVIDENCE, TARGET, ROWS, {"heads": [HeadSet("L0H0")] * 3}, "3 head sets for a batch of 2"),
    ):
        heads = options.pop("heads", "L0H0")
        with pytest.raises(BadInput, match=says), redirect(llama, heads, evidence, target, rows, **options):
            llama(ids)
    with pytest.raises(UnknownName, match="did you mean 'forced'"):
        with redirect(llama, "L0H0", EVIDENCE, TARGET, ROWS, strength="force"):
            pass
    assert llama.config._attn_implementation == "sdpa"
