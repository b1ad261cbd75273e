"""With any cache (growing, static, sliding), in steps or chunks, programs do what one pass without a cache does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import FAMILIES, HEADS, LAYERS, tiny_inputs, tiny_model
from torch import Tensor
from transformers import DynamicCache, MistralConfig, MistralForCausalLM, StaticCache

from corelib.attention.call import explicit_mask
from corelib.attention.head_outputs import head_outputs
from corelib.attention.interface import running
from corelib.attention.intervene import ablate, knockout
from corelib.attention.record import record
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.sparse import Window, sparsify

CLOSE = {"atol": 2e-5, "rtol": 1e-5}
SOME = HeadSet("L0H2 L1H0 L1H5")
STEPS = 5
GREEDY = {"max_new_tokens": STEPS, "do_sample": False, "eos_token_id": None}
KINDS = ("dynamic", "static")


def generated(model, inputs, kind: str) -> tuple[Tensor, Tensor]:
    """Tokens, and the logits of every step [step, batch, word]."""
    wanted = {"output_logits": True, "return_dict_in_generate": True}
    out = model.generate(**inputs, **GREEDY, **wanted, cache_implementation=kind)
    return out.sequences, torch.stack(out.logits)


def longer(inputs, ids: Tensor) -> dict[str, Tensor]:
    """The inputs of one pass over the prompt and all that was generated."""
    new = ids[:, inputs["input_ids"].shape[1] :]
    more = {
        **inputs,
        "input_ids": ids,
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1),
    }
    if "mm_token_type_ids" in inputs:
        more["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(new).int()], 1)
    return more


def mistral(window: int):
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 48, "intermediate_size": 32, "num_hidden_layers": LAYERS, "head_dim": 8}
    sizes |= {"num_attention_heads": HEADS, "num_key_value_heads": 2, "initializer_range": 0.2}
    return MistralForCausalLM(MistralConfig(**sizes, sliding_window=window, pad_token_id=0)).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_rows_read_while_generating_are_those_of_eager(family, kind):
    model, inputs = tiny_model(family), tiny_inputs(family)
    length = inputs["input_ids"].shape[1]
    rows = torch.zeros(2, length + STEPS, dtype=torch.bool)
    rows[:, length - 2 :] = True
    plain, _ = generated(model, inputs, kind)
    with record(model, rows) as recorded:
        ids, _ = generated(model, inputs, kind)
    assert torch.equal(ids, plain)
    model.set_attn_implementation("eager")
    expected = torch.stack(model(**longer(inputs, ids), output_attentions=True).attentions)
    torch.testing.assert_close(recorded.stack(), expected[:, :, :, length - 2 : -1, :-1], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", ["prefill", "decode", "rows"])
@torch.no_grad()
def test_ablation_while_generating_is_that_of_one_pass(phase, kind):
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    length = inputs["input_ids"].shape[1]
    decoded = torch.zeros(2, length + STEPS, dtype=torch.bool)
    decoded[:, length:] = True
    with ablate(model, SOME, rows=decoded if phase == "rows" else phase):
        ids, logits = generated(model, inputs, kind)
    with ablate(model, SOME, rows=~decoded if phase == "prefill" else decoded):
        whole = model(**longer(inputs, ids)).logits
    torch.testing.assert_close(logits.transpose(0, 1), whole[:, length - 1 : -1], **CLOSE)
    assert (whole - model(**longer(inputs, ids)).logits).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_knockout_while_generating_is_that_of_one_pass(kind):
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")
    length = inputs["input_ids"].shape[1]
    hidden, rows = torch.zeros(2, 2, length + STEPS, dtype=torch.bool)
    hidden[:, [4, 5, length]] = rows[:, length - 1 :] = True
    with knockout(model, hidden, rows, SOME):
        ids, logits = generated(model, inputs, kind)
        whole = model(**longer(inputs, ids)).logits
    torch.testing.assert_close(logits.transpose(0, 1), whole[:, length - 1 : -1], **CLOSE)
    assert (whole - model(**longer(inputs, ids)).logits).abs().max() > 1e-4


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_sparse_generation_is_that_of_one_pass(kind, padding):
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm", padding=padding)
    length = inputs["input_ids"].shape[1]
    with sparsify(model, SOME, Window(4, 2)):
        ids, logits = generated(model, inputs, kind)
        whole = model(**longer(inputs, ids)).logits
    torch.testing.assert_close(logits.transpose(0, 1), whole[:, length - 1 : -1], **CLOSE)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("chunks", [[12], [3, 2, 7], [1] * 12, [6, 1, 5]])
@torch.no_grad()
def test_a_sliding_cache_keeps_the_positions(static, chunks, padding):
    """Mistral with a window of 4: its cache drops keys, and still every row is where it was."""
    model, ids = mistral(4), torch.randint(3, 60, (2, 12))
    mask = torch.ones_like(ids)
    mask[1, :padding] = 0
    hidden, rows = torch.zeros(2, 2, 12, dtype=torch.bool)
    hidden[:, [5, 8]] = rows[:, 6:11] = True

    def read(**options):
        with knockout(model, hidden, rows, "L0H1 L1H4"), ablate(model, SOME, rows=rows), record(model, rows) as read:
            cache, start, logits = StaticCache(model.config, max_cache_len=16) if static else None, 0, []
            for size in options.get("chunks", [12]):
                now = {"input_ids": ids[:, start : start + size], "attention_mask": mask[:, : start + size]}
                out = model(**now, past_key_values=cache, use_cache="chunks" in options)
                cache, start = out.past_key_values, start + size
                logits.append(out.logits)
        attention = read.stack()
        return torch.nn.functional.pad(attention, (0, 12 - attention.shape[-1])), torch.cat(logits, 1)

    (attention, logits), (expected, wanted) = read(chunks=chunks), read()
    torch.testing.assert_close(attention, expected, **CLOSE)
    torch.testing.assert_close(logits[mask.bool()], wanted[mask.bool()], **CLOSE)


@torch.no_grad()
def test_a_reducer_is_not_given_keys_of_other_places():
    model, ids = mistral(4), torch.arange(3, 15)[None]
    everything = torch.ones(1, 13, dtype=torch.bool)
    with record(model, everything, lambda call, attention: attention.amax(-1)):
        cache = model(ids).past_key_values
        with pytest.raises(BadInput, match="slides"):
            model(ids[:, :1], past_key_values=cache)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("chunks", [[16], [9, 7], [5, 4, 7]])
@torch.no_grad()
def test_a_chunk_of_a_prompt_is_prefill(chunks, static):
    model, ids = tiny_model("smolvlm"), torch.randint(3, 50, (2, 16))
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    plain = model(input_ids=ids, attention_mask=mask).logits[:, -1]
    with ablate(model, SOME):
        expected = model(input_ids=ids, attention_mask=mask).logits[:, -1]
    for phase, wanted in (("prefill", expected), ("decode", plain)):
        cache = StaticCache(config=model.config.text_config, max_cache_len=24) if static else DynamicCache()
        start = 0
        with ablate(model, SOME, rows=phase):
            for size in chunks:
                now = {"input_ids": ids[:, start : start + size], "attention_mask": mask[:, : start + size]}
                out, start = model(**now, past_key_values=cache), start + size
        torch.testing.assert_close(out.logits[:, -1], wanted, **CLOSE)


@torch.no_grad()
def test_a_prompt_of_one_token_is_prefill():
    model, seen = tiny_model("smolvlm"), []

    def note(call, inner):
        seen.append(call.decoding)
        return inner(call)

    with running(model, note):
        cache = model(input_ids=torch.tensor([[5]])).past_key_values
        model(input_ids=torch.tensor([[6]]), past_key_values=cache)
    assert seen == [False, False, True, True]


@torch.no_grad()
def test_empty_slots_of_a_static_cache_are_cut_off():
    model, inputs, shapes = tiny_model("smolvlm"), tiny_inputs("smolvlm"), []

    def note(call, inner):
        shapes.append((call.offset, call.key.shape[2], call.mask.shape[-1]))
        assert torch.equal(call.own_mask, explicit_mask(call))
        return inner(replace(call, mask=explicit_mask(call)))

    with running(model, note):
        generated(model, inputs, "static")
    length = inputs["input_ids"].shape[1]
    assert shapes[::LAYERS] == [(0, length, length), *((length + n, length + n + 1, length + n + 1) for n in range(4))]


@torch.no_grad()
def test_head_outputs_of_a_part_of_a_sequence_are_refused():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    with head_outputs(model), pytest.raises(BadInput, match="whole sequences"):
        model.generate(**inputs, **GREEDY)
