"""The decisive test: recorded rows are those of eager `output_attentions`, in every family and every situation."""

from __future__ import annotations

import pytest
import torch
from tiny import FAMILIES, HEADS, LAYERS, tiny_inputs, tiny_model
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, StaticCache

from corelib.attention.call import AttentionCall
from corelib.attention.decoder import attention_modules
from corelib.attention.record import record, row_index
from corelib.core.errors import BadInput

CLOSE = {"atol": 1e-5, "rtol": 0}


@torch.no_grad()
def eager(model, **inputs):
    """Attention [layer, batch, head, query, key] and logits, the way transformers computes them by itself."""
    previous = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation("eager")
    out = model(**inputs, output_attentions=True)
    model.set_attn_implementation(previous)
    return torch.stack(out.attentions), out.logits


def last(inputs, count=3):
    """Mark the last `count` rows of the second sequence and one fewer of the first: a ragged selection."""
    rows = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    rows[:, -count:] = True
    rows[0, -count] = False
    return rows


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_parity_with_eager(family):
    """Grouped heads, two sequences, left padding, a ragged selection of rows."""
    model, inputs = tiny_model(family), tiny_inputs(family)
    plain, rows = model(**inputs).logits, last(inputs)
    with record(model, rows) as recorded:
        logits = model(**inputs).logits
    assert torch.equal(logits, plain)
    expected, reference = eager(model, **inputs)
    torch.testing.assert_close(logits[:, -3:], reference[:, -3:], **CLOSE)
    read = recorded.stack()
    assert read.shape == (LAYERS, 2, HEADS, 3, rows.shape[1])
    torch.testing.assert_close(read[:, 1], expected[:, 1, :, -3:], **CLOSE)
    torch.testing.assert_close(read[:, 0, :, :2], expected[:, 0, :, -2:], **CLOSE)
    assert read[:, 0, :, 2].abs().sum() == 0  # the row that pads the shorter selection
    assert read[:, 1, :, :, :3].abs().sum() == 0  # padding is never seen
    assert list(recorded.attention) == [0, 1]
    torch.testing.assert_close(recorded.attention[1], read[1])


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_parity_with_a_cache(family):
    """A prompt, then decoding steps: rows are places on the key axis, and unmarked steps record nothing."""
    model, inputs = tiny_model(family), tiny_inputs(family)
    length = inputs["input_ids"].shape[1]
    tokens = torch.tensor([[7, 8, 9], [10, 11, 12]])
    rows = torch.zeros(2, length + 3, dtype=torch.bool)
    rows[:, [length - 1, length, length + 2]] = True
    more = {
        "input_ids": torch.cat([inputs["input_ids"], tokens], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(tokens)], 1),
    }
    if "mm_token_type_ids" in inputs:
        more["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tokens).int()], 1)
    expected, _ = eager(model, **inputs | more)
    kept, positions = [], None
    if family.startswith("qwen"):  # outside generate() these models want a step's rotary positions spelled out
        names = ("input_ids", "mm_token_type_ids", "attention_mask")
        grid = inputs["image_grid_thw"]
        positions = model.model.get_rope_index(**{name: more[name] for name in names}, image_grid_thw=grid)[0]
    with record(model, rows) as recorded:
        cache = model(**inputs, use_cache=True).past_key_values
        for step in range(3):
            mask = more["attention_mask"][:, : length + step + 1]
            now = {"input_ids": tokens[:, step, None], "attention_mask": mask, "past_key_values": cache}
            if positions is not None:
                now["position_ids"] = positions[:, :, length + step, None]
            cache = model(**now).past_key_values
            kept.append(len(recorded.kept[0]))
    assert kept == [2, 2, 3]
    torch.testing.assert_close(recorded.stack(), expected[:, :, :, [length - 1, length, length + 2]], **CLOSE)


@torch.no_grad()
def test_parity_without_padding_and_with_a_chunk_of_prompt():
    """Batch 1 and no padding: transformers gives no mask at all. Then a second chunk of several rows on a cache."""
    model, inputs = tiny_model("internvl"), tiny_inputs("internvl", batch=1)
    expected, _ = eager(model, **inputs)
    rows = torch.ones_like(inputs["input_ids"]).bool()
    with record(model, rows) as recorded:
        model(**inputs)
    torch.testing.assert_close(recorded.stack(), expected, **CLOSE)
    tail = inputs["input_ids"][:, -4:]
    with record(model, rows) as recorded:
        cache = model(inputs["input_ids"][:, :-4], pixel_values=inputs["pixel_values"]).past_key_values
        model(input_ids=tail, past_key_values=cache)
    torch.testing.assert_close(recorded.stack(), expected, **CLOSE)


@torch.no_grad()
def test_parity_before_an_empty_static_cache():
    """More keys than queries and no mask: the rows stand at the start of the key axis, not at its end."""
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm", batch=1)
    expected, _ = eager(model, **inputs)
    with record(model, torch.ones_like(inputs["input_ids"]).bool()) as recorded:
        model(**inputs, past_key_values=StaticCache(config=model.config.text_config, max_cache_len=24))
    torch.testing.assert_close(recorded.stack()[..., : expected.shape[-1]], expected, **CLOSE)
    assert recorded.stack()[..., expected.shape[-1] :].abs().sum() == 0


@torch.no_grad()
def test_recording_while_generating():
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")
    length = inputs["input_ids"].shape[1]
    rows = torch.zeros(2, length + 4, dtype=torch.bool)
    rows[:, length - 1 :] = True
    settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    plain = model.generate(**inputs, **settings)
    with record(model, rows) as recorded:
        assert torch.equal(model.generate(**inputs, **settings), plain)
    assert recorded.attention[0].shape == (2, HEADS, 4, length + 3)  # the last token produced is never read


@pytest.mark.parametrize("window", [None, 4])
@torch.no_grad()
def test_parity_for_other_geometries(window):
    """15 heads on 5; a sliding window that only some keys fall into."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 60, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 4}
    sizes |= {"num_attention_heads": 15, "num_key_value_heads": 5, "initializer_range": 0.2}
    config = MistralConfig(**sizes, sliding_window=window) if window else LlamaConfig(**sizes)
    model = (MistralForCausalLM if window else LlamaForCausalLM)(config).eval()
    ids = torch.arange(10)[None]
    expected, _ = eager(model, input_ids=ids)
    with record(model, torch.ones(1, 10, dtype=torch.bool)) as recorded:
        model(ids)
    torch.testing.assert_close(recorded.stack(), expected, **CLOSE)
    assert (expected[0, 0, 0, -1, 0] == 0) == (window is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision(dtype):
    model, inputs = tiny_model("llava_onevision").to(dtype), tiny_inputs("llava_onevision")
    expected, _ = eager(model, **inputs)
    with record(model, last(inputs)) as recorded:
        model(**inputs)
    assert recorded.stack().dtype == torch.float32
    torch.testing.assert_close(recorded.stack()[:, 1], expected[:, 1, :, -3:].float(), atol=0.03, rtol=0)


@torch.no_grad()
def test_a_reducer_sees_each_layer_once_and_keeps_only_what_it_returns():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    rows, layers = last(inputs), []
    evidence = torch.zeros_like(rows)
    evidence[:, 4:6] = True

    def mass(call, attention):
        layers.append(call.layer)
        return (attention * evidence[:, None, None]).sum(-1)

    with record(model, rows, mass) as recorded:
        model(**inputs)
    with record(model, rows) as full:
        model(**inputs)
    assert layers == [0, 1]
    torch.testing.assert_close(recorded.stack(), full.stack()[..., 4:6].sum(-1))
    with pytest.raises(BadInput, match="reducer"):
        recorded.attention  # noqa: B018
    with record(model, rows, lambda call, attention: None) as nothing:
        model(**inputs)
    with pytest.raises(BadInput, match="nothing was recorded"):
        nothing.stack()


def test_recording_keeps_no_graph_and_lets_gradients_flow():
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")
    with record(model, last(inputs)) as recorded:
        model(**inputs).logits.sum().backward()
    assert not recorded.stack().requires_grad
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0


@torch.no_grad()
def test_rows_of_a_sequence_without_any():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    rows = last(inputs)
    rows[1] = False
    with record(model, rows) as recorded:
        model(**inputs)
    assert recorded.stack()[:, 1].abs().sum() == 0
    with record(model, torch.zeros_like(rows)) as recorded:
        model(**inputs)
    assert recorded.attention == {}


def test_row_index_keeps_order():
    index, valid = row_index(torch.tensor([[False, True, False, True], [True, False, False, False]]))
    assert index.tolist() == [[1, 3], [0, 0]]
    assert valid.tolist() == [[True, True], [True, False]]


NUMBERS = {
    "the last": (-1, [[15], [15]]),
    "one": (4, [[4], [4]]),
    "for all": ([2, 9, -1], [[2, 9, 15], [2, 9, 15]]),
    "a row": (torch.tensor([3, 8]), [[3, 8], [3, 8]]),
    "for each": ([[2, 9], [-2]], [[2, 9], [14]]),
    "a table": (torch.tensor([[2, 9], [8, 12]], dtype=torch.int32), [[2, 9], [8, 12]]),
    "none of one": ([[], [7]], [[], [7]]),
}


@pytest.mark.parametrize(("given", "meant"), NUMBERS.values(), ids=NUMBERS)
@torch.no_grad()
def test_rows_may_be_numbers(given, meant):
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    mask = torch.zeros(2, 16, dtype=torch.bool)
    for row, numbers in zip(mask, meant, strict=True):
        row[numbers] = True
    found = []
    for rows in (given, mask):
        with record(model, rows) as recorded:
            model(**inputs)
        found.append(recorded.stack())
    assert torch.equal(*found)


@torch.no_grad()
def test_numbers_reach_the_steps_of_decoding_and_count_from_the_prompt():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    with record(model, -1) as last, record(model, [15, 17]) as some:
        model.generate(**inputs, **options)
    assert last.stack().shape[3] == 1 and some.stack().shape[3] == 2
    torch.testing.assert_close(last.stack()[..., 0, :], some.stack()[..., 0, :16])


WRONG = [
    *(torch.ones(2, 16), torch.ones(2, 2, 2).bool(), torch.ones(4).bool(), torch.ones(2, 16).int()),
    *(None, "last", True, 1.5, object(), {"rows": 1}),
    *([1.5], [True, False], [[True] * 16] * 2, [None], [3, 3], [5, 2], [-1, -2]),
]


@pytest.mark.parametrize("rows", WRONG, ids=lambda rows: str(rows)[:20])
def test_what_is_no_choice_of_rows_is_refused(rows):
    with pytest.raises(BadInput, match="boolean mask"), record(tiny_model("smolvlm"), rows):
        pass


@torch.no_grad()
def test_rows_that_do_not_fit_are_refused():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    for shape in [(1, 16), (2, 15)]:
        with pytest.raises(BadInput, match="padding included"), record(model, torch.ones(shape, dtype=torch.bool)):
            model(**inputs)
    with pytest.raises(BadInput, match="3 lists for a batch of 2"), record(model, [[1], [2], [3]]):
        model(**inputs)
    with pytest.raises(BadInput, match="the prompt has 16 positions"), record(model, -17):
        model(**inputs)
    cache = model(**inputs).past_key_values
    with pytest.raises(BadInput, match="before the block"), record(model, -1):
        model(input_ids=torch.ones(2, 1).long(), past_key_values=cache)
    assert model.config.text_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("rows", [-1, "mask"])
@torch.no_grad()
def test_a_second_pass_of_another_batch_size_is_refused(rows):
    model, two, one = tiny_model("smolvlm"), tiny_inputs("smolvlm"), tiny_inputs("smolvlm", batch=1)
    with record(model, last(two) if rows == "mask" else rows) as recorded:
        model(**two)
        with pytest.raises(BadInput, match="a batch of 1 after one of 2"):
            model(**one)
    assert recorded.stack().shape[1] == 2


@torch.no_grad()
def test_layers_on_several_devices():
    """No second device is here; "meta" stands for it: it has shapes and no numbers."""
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    states = torch.zeros(2, HEADS, 16, 8)
    module = attention_modules(model)[0]
    with record(model, last(inputs)) as recorded:
        for device in ("cpu", "meta"):
            query = states.to(device)
            call = AttentionCall(module, query, query[:, :2], query[:, :2], None, 1.0, 0)
            index, valid = recorded._span(call)
            assert index.device.type == valid.device.type == device
    recorded.kept = {0: [torch.ones(2, 3, 4)], 1: [torch.ones(2, 3, 4, device="meta")]}
    with pytest.raises(NotImplementedError, match="meta"):  # it is moved, which meta cannot do
        recorded.stack()
    recorded.kept = {0: [torch.ones(2, 3, 4, device="meta")], 1: [torch.ones(2, 3, 4)]}
    assert recorded.stack().shape == (2, 2, 3, 4) and recorded.stack().is_meta


@torch.no_grad()
def test_a_reducer_that_drops_the_rows_cannot_be_joined():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    with record(model, last(inputs), lambda call, attention: attention.sum((-1, -2))) as recorded:
        model(**inputs)
        assert recorded.stack().shape == (LAYERS, 2, HEADS)
        model(**inputs)
    with pytest.raises(BadInput, match="row axis"):
        recorded.stack()
