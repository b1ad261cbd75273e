"""Sink and window attention beside plain masked attention: any shape, any padding, any chunk, and while decoding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import FAMILIES, tiny_inputs, tiny_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from corelib.attention.interface import AttentionCall, Inner, explicit_mask, running
from corelib.attention.intervene import ablate, knockout
from corelib.attention.record import record
from corelib.core.errors import BadInput, UnknownName
from corelib.core.heads import HeadSet
from corelib.sparse import Window, sparsify
from corelib.sparse.dense import full_attention
from corelib.sparse.flex import BLOCK, hybrid_attention, plain_blocks
from corelib.sparse.oracle_topk import oracle_topk
from corelib.sparse.windowed import window_attention

DENSE = HeadSet("L0H1 L1H0 L1H1 L1H2 L1H5")
ONE_WAY = [family for family in FAMILIES if family != "gemma3"]  # no token of a picture sees a later one


def seen_by(window: Window, rows: int, keys: int, offset: int, begins: Tensor) -> Tensor:
    """Written the slow way: [batch, 1, row, key], positions counted from where each sequence begins."""
    row = offset + torch.arange(rows)[None, :, None] - begins[:, None, None]
    key = torch.arange(keys)[None, None] - begins[:, None, None]
    return (window.seen(row, key) & (key >= 0))[:, None]


def masked(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """Attention with an N² mask, in double precision; a row that sees nothing puts out zero."""
    group = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(group, 1).double() for states in (key, value))
    scores = (query.double() @ key.mT * query.shape[-1] ** -0.5).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1).nan_to_num(0.0) @ value).transpose(1, 2)


@contextmanager
def reference(model: nn.Module, dense: HeadSet, window: Window) -> Iterator[None]:
    """The same heads under masks, through the model's own attention."""
    chosen = dense.by_layer()

    def program(call: AttentionCall, inner: Inner) -> Tensor:
        mask = explicit_mask(call)
        begins = mask[:, :, -1].any(1).int().argmax(-1)
        near = seen_by(window, call.query.shape[2], call.key.shape[2], call.offset, begins)
        far = torch.zeros(call.num_heads, dtype=torch.bool)
        far[list(chosen.get(call.layer, ()))] = True
        return inner(replace(call, mask=mask & (near | far[None, :, None, None])))

    with running(model, program):
        yield


shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "kv_heads": st.integers(1, 3),
        "group": st.integers(1, 3),
        "rows": st.integers(1, 90),
        "before": st.integers(0, 70),
        "width": st.integers(1, 60),
        "sinks": st.integers(0, 20),
        "block": st.sampled_from([1, 7, 16, 128]),
        "padded": st.booleans(),
        "seed": st.integers(0, 99),
    }
)


def drawn(shape: dict, dtype: torch.dtype = torch.float32):
    make = torch.Generator().manual_seed(shape["seed"])
    keys = shape["rows"] + shape["before"]
    heads = shape["kv_heads"] * shape["group"]

    def some(count: int, length: int) -> Tensor:
        return torch.randn(shape["batch"], count, length, 8, generator=make).to(dtype)

    states = some(heads, shape["rows"]), some(shape["kv_heads"], keys), some(shape["kv_heads"], keys)
    begins = torch.randint(0, max(1, shape["before"]), (shape["batch"],), generator=make) * shape["padded"]
    return states, begins, Window(shape["width"], shape["sinks"])


@given(shapes)
@settings(max_examples=150, deadline=None)
def test_the_fold_is_masked_attention(shape):
    states, begins, window = drawn(shape)
    seen = seen_by(window, shape["rows"], states[1].shape[2], shape["before"], begins)
    mask = None
    if shape["padded"]:
        everything = Window(10**6)
        mask = seen_by(everything, shape["rows"], states[1].shape[2], shape["before"], begins)
    options = {"scaling": 8**-0.5, "offset": shape["before"], "block": shape["block"]}
    found = window_attention(*states, window, mask=mask, first=begins if shape["padded"] else None, **options)
    torch.testing.assert_close(found.double(), masked(*states, seen), atol=1e-5, rtol=1e-5)


@given(shapes)
@settings(max_examples=30, deadline=None)
def test_the_fold_in_bfloat16(shape):
    states, begins, window = drawn({**shape, "padded": False}, torch.bfloat16)
    seen = seen_by(window, shape["rows"], states[1].shape[2], shape["before"], begins)
    found = window_attention(*states, window, scaling=8**-0.5, offset=shape["before"], block=shape["block"])
    wanted = masked(*states, seen)
    assert (found.double() - wanted).norm() <= 2e-2 * wanted.norm()


@pytest.mark.parametrize("rows", [1024, 1025])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_long_dense_head_reads_everything(rows, dtype, error):
    query = torch.randn(1, 3, rows, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    seen = torch.ones(rows, rows, dtype=torch.bool).tril()
    states = query, query[:, :1], query[:, :1]
    found, wanted = full_attention(*states, None, scaling=8**-0.5), masked(*states, seen)
    assert (found.double() - wanted).norm() <= error * wanted.norm()


@given(shapes)
@settings(max_examples=30, deadline=None)
def test_a_mask_of_each_head_is_kept(shape):
    states, begins, window = drawn({**shape, "padded": False})
    make = torch.Generator().manual_seed(shape["seed"])
    mask = torch.rand(shape["batch"], states[0].shape[1], shape["rows"], states[1].shape[2], generator=make) < 0.6
    seen = seen_by(window, shape["rows"], states[1].shape[2], shape["before"], begins) & mask
    options = {"scaling": 8**-0.5, "offset": shape["before"], "block": shape["block"]}
    found = window_attention(*states, window, mask=mask, **options)
    torch.testing.assert_close(found.double(), masked(*states, seen), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ONE_WAY)
@pytest.mark.parametrize("window", [Window(3, 2), Window(5, 0), Window(1, 1), Window(100)])
def test_a_sparse_model_is_a_masked_one(family, window):
    model, inputs = tiny_model(family), tiny_inputs(family)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        with sparsify(model, DENSE, window):
            found = model(**inputs).logits
        with reference(model, DENSE, window):
            wanted = model(**inputs).logits
        torch.testing.assert_close(found[real], wanted[real], atol=2e-5, rtol=1e-5)
        plain = model(**inputs).logits
    assert torch.allclose(found[real], plain[real], atol=1e-4) == (window.width == 100)


@pytest.mark.parametrize("family", ONE_WAY)
@pytest.mark.filterwarnings("ignore")  # it asks to be compiled
@torch.no_grad()
def test_both_backends_say_the_same(family):
    model, inputs, window = tiny_model(family), tiny_inputs(family), Window(4, 2)
    real, found = inputs["attention_mask"].bool(), []
    for backend in ("fold", "flex", "auto"):
        with sparsify(model, DENSE, window, backend=backend):
            found.append(model(**inputs).logits[real])
    torch.testing.assert_close(found[0], found[1], atol=2e-5, rtol=1e-5)
    assert torch.equal(found[0], found[2])  # on a CPU


@pytest.mark.parametrize("family", ["qwen3_vl", "smolvlm"])
def test_generation(family):
    model, inputs, window = tiny_model(family), tiny_inputs(family), Window(4, 2)
    options = {"max_new_tokens": 8, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with sparsify(model, DENSE, window):
        found = model.generate(**inputs, **options)
    with reference(model, DENSE, window):
        wanted = model.generate(**inputs, **options)
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(wanted.logits), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["qwen3_vl", "smolvlm"])
@torch.no_grad()
def test_prefill_in_chunks(family):
    model, words = tiny_model(family), torch.randint(3, 50, (1, 30))
    cache, parts = DynamicCache(), []
    with sparsify(model, DENSE, Window(4, 2)):
        whole = model(input_ids=words).logits
        for chunk in words.split([7, 1, 22], dim=1):
            parts.append(model(input_ids=chunk, past_key_values=cache).logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_programs_outside_of_it_still_work():
    model, inputs, window = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl"), Window(3, 1)
    rows = inputs["attention_mask"].bool()
    some = HeadSet("L0H0 L1H1")
    with ablate(model, some), sparsify(model, DENSE, window):
        found = model(**inputs).logits
    with ablate(model, some), reference(model, DENSE, window):
        torch.testing.assert_close(found[rows], model(**inputs).logits[rows], atol=2e-5, rtol=1e-5)
    for other in (record(model, rows), ablate(model, some)):
        with sparsify(model, DENSE, window), other, pytest.raises(BadInput, match="outside of it"):
            model(**inputs)
    plain = tiny_model("qwen3_vl")(**inputs).logits
    assert torch.equal(model(**inputs).logits, plain)  # nothing is left behind, errors included


def test_no_tensor_grows_with_rows_times_keys():
    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for one in out if isinstance(out, tuple) else (out,):
                if isinstance(one, Tensor):
                    self.seen = max(self.seen, one.numel())
            return out

    found = {}
    for length in (1024, 4096):
        states = [torch.randn(1, heads, length, 8) for heads in (4, 2, 2)]
        with Largest() as largest:
            window_attention(*states, Window(64), scaling=1.0)
        found[length] = largest.seen
    assert found[4096] <= 4 * found[1024] < 1024**2


@given(shapes, st.sets(st.integers(0, 8)))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore")  # it asks to be compiled
def test_flex_attention_is_masked_attention(shape, dense):
    states, begins, window = drawn(shape)
    heads = states[0].shape[1]
    dense = sorted(head for head in dense if head < heads)
    everything = seen_by(Window(10**6), shape["rows"], states[1].shape[2], shape["before"], begins)
    far = torch.zeros(heads, dtype=torch.bool)
    far[dense] = True
    seen = seen_by(window, shape["rows"], states[1].shape[2], shape["before"], begins)
    seen = torch.where(far[None, :, None, None], everything, seen)
    mask = {"mask": everything, "first": begins} if shape["padded"] else {}
    found = hybrid_attention(*states, dense, window, scaling=8**-0.5, offset=shape["before"], **mask)
    torch.testing.assert_close(found.double(), masked(*states, seen), atol=1e-5, rtol=1e-5)


@given(rows=st.integers(1, 700), before=st.integers(0, 700), width=st.integers(1, 500), sinks=st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_flex_attention_is_told_the_right_blocks(rows, before, width, sinks):
    """The plain way of FlexAttention does not read the blocks, a GPU does: every key that is seen must be in a block,
    and a block that is "full" must be seen whole."""
    window, keys = Window(width, sinks), rows + before
    blocks = plain_blocks((1,), 2, rows, keys, before, window, torch.device("cpu"))
    begins = torch.zeros(1, dtype=torch.long)
    near, far = (seen_by(one, rows, keys, before, begins)[0, 0] for one in (window, Window(10**6)))
    for head, seen in enumerate((near, far)):
        some, whole = (_tiles(blocks, head, part, seen.shape) for part in ("", "full_"))
        assert not (some & whole).any()
        assert not (seen & ~(some | whole)).any()  # nothing is missed
        assert not (whole & ~seen).any()
        tiled = torch.nn.functional.max_pool2d(seen[None, None].float(), BLOCK, ceil_mode=True)[0, 0] > 0
        assert int(tiled.sum()) == int(blocks.kv_num_blocks[0, head].sum() + blocks.full_kv_num_blocks[0, head].sum())


def _tiles(blocks, head: int, part: str, shape) -> Tensor:
    marked = torch.zeros(shape, dtype=torch.bool)
    counts, places = (getattr(blocks, f"{part}kv_{name}")[0, head] for name in ("num_blocks", "indices"))
    for row, count in enumerate(counts.tolist()):
        for column in places[row, :count].tolist():
            marked[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] = True
    return marked


def test_bad_input_is_refused():
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")
    for width, sinks in ((0, 4), (-1, 4), (2.5, 4), (3, -1), ("all", 4), (True, 1)):
        with pytest.raises(BadInput, match="whole number of tokens"):
            Window(width, sinks)
    with pytest.raises(BadInput, match="layers 0–1 with heads 0–5"), sparsify(model, HeadSet("L0H9"), Window(4)):
        pass
    with pytest.raises(UnknownName, match="backend"), sparsify(model, DENSE, Window(4), backend="flash"):
        pass
    with sparsify(model, DENSE, Window(4)), pytest.raises(BadInput, match="boolean"):
        model(input_ids=inputs["input_ids"][:1], attention_mask=torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize("family", ONE_WAY)
@pytest.mark.parametrize("dense", [DENSE, HeadSet(), HeadSet("L0H0 L0H1 L0H2"), HeadSet.all(2, 6)])
def test_forgetting_changes_nothing_but_memory(family, dense):
    model, inputs, window = tiny_model(family), tiny_inputs(family), Window(4, 2)
    options = {"max_new_tokens": 12, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with sparsify(model, dense, window) as sparse:
        cache, whole = sparse.cache(), DynamicCache()
        found = model.generate(**inputs, past_key_values=cache, **options)
        wanted = model.generate(**inputs, past_key_values=whole, **options)
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(wanted.logits), atol=2e-5, rtol=1e-5)
    length, near = whole.get_seq_length(), window.sinks + window.width - 1
    assert cache.get_seq_length() == length > near
    far = len({(head.layer, head.index // 3) for head in dense})  # of 4 key/value heads
    each = 2 * 2 * 8 * 4  # keys and values of two sequences, 8 numbers of 4 bytes
    assert cache.nbytes == each * (far * length + (4 - far) * near)


@torch.no_grad()
def test_forgetting_between_chunks():
    model, words = tiny_model("smolvlm"), torch.randint(3, 50, (2, 40))
    with sparsify(model, DENSE, Window(5, 3)) as sparse:
        wanted, cache, parts = model(input_ids=words).logits, sparse.cache(), []
        for chunk in words.split([3, 4, 20, 1, 12], dim=1):
            parts.append(model(input_ids=chunk, past_key_values=cache).logits)
    torch.testing.assert_close(torch.cat(parts, 1), wanted, atol=2e-5, rtol=1e-5)
    with pytest.raises(BadInput, match="inside its"):
        model(input_ids=words[:, :1], past_key_values=cache)
    cache.reset()
    assert cache.nbytes == cache.get_seq_length() == 0


@pytest.mark.parametrize("sinks", [6, 9, 50])
@pytest.mark.parametrize("backend", ["fold", "flex"])
@pytest.mark.filterwarnings("ignore")  # it asks to be compiled
@torch.no_grad()
def test_of_a_prompt_shorter_than_the_sinks_all_keys_are_sinks(backend, sinks):
    """The second sequence has 4 tokens and grows beyond the sinks while decoding."""
    model, ids, window = tiny_model("smolvlm"), torch.randint(3, 50, (2, 10)), Window(2, sinks)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["attention_mask"][1, :6] = 0
    real = inputs["attention_mask"].bool()
    options = {"max_new_tokens": 9, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with reference(model, DENSE, window):
        wanted = model(**inputs).logits[real]
        expected = torch.stack(model.generate(**inputs, **options).logits)
    with sparsify(model, DENSE, window, backend=backend) as sparse:
        torch.testing.assert_close(model(**inputs).logits[real], wanted, atol=2e-5, rtol=1e-5)
        for cache in (DynamicCache(), sparse.cache()):
            found = torch.stack(model.generate(**inputs, **options, past_key_values=cache).logits)
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("backend", ["fold", "flex"])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.filterwarnings("ignore")  # it asks to be compiled
@torch.no_grad()
def test_hiding_the_first_token_moves_no_sinks(padding, backend, own):
    model, inputs, window = tiny_model("smolvlm"), tiny_inputs("smolvlm", padding=padding), Window(4, 2)
    begins = torch.tensor([0, padding])
    hidden = torch.zeros(2, 30, dtype=torch.bool)
    hidden[torch.arange(2), begins] = True
    rows, chosen = torch.ones_like(hidden), DENSE.by_layer()

    def by_hand(call: AttentionCall, inner: Inner) -> Tensor:
        near = seen_by(window, call.query.shape[2], call.key.shape[2], call.offset, begins)
        far = torch.zeros(call.num_heads, dtype=torch.bool)
        far[list(chosen.get(call.layer, ()))] = True
        return inner(replace(call, mask=explicit_mask(call) & (near | far[None, :, None, None])))

    options = {"max_new_tokens": 8, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with knockout(model, hidden, rows), running(model, by_hand):
        wanted = model.generate(**inputs, **options)
    with knockout(model, hidden, rows), sparsify(model, DENSE, window, backend=backend) as sparse:
        found = model.generate(**inputs, **options, past_key_values=sparse.cache() if own else DynamicCache())
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(wanted.logits), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dense", [DENSE, HeadSet(), HeadSet("L0H1 L1H1")])
@torch.no_grad()
def test_attention_whose_keys_are_gone_is_not_read(dense):
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    rows = torch.ones(2, 30, dtype=torch.bool)
    for outside in (record(model, rows), oracle_topk(model, 3)):
        with outside, sparsify(model, dense, Window(4, 2)) as sparse, pytest.raises(BadInput, match="ordinary cache"):
            model.generate(**inputs, max_new_tokens=4, past_key_values=sparse.cache())
    with record(model, rows) as recorded, sparsify(model, dense, Window(4, 2)):
        model.generate(**inputs, max_new_tokens=4, do_sample=False, eos_token_id=None)
    assert recorded.stack().shape[3] == inputs["input_ids"].shape[1] + 3


@pytest.mark.parametrize("padding", [0, 3])
@torch.no_grad()
def test_sparse_layers_that_slide_by_themselves(padding):
    """In one pass it is masked attention; in steps the beginning is out of sight, and that is said."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 48, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
    sizes |= {"num_attention_heads": 6, "num_key_value_heads": 2, "initializer_range": 0.2}
    model = MistralForCausalLM(MistralConfig(**sizes, sliding_window=5)).eval()
    ids, window = torch.randint(3, 60, (2, 14)), Window(2, 3)
    mask = torch.ones_like(ids)
    mask[1, :padding] = 0
    begins, chosen = torch.tensor([0, padding]), DENSE.by_layer()

    def by_hand(call: AttentionCall, inner: Inner) -> Tensor:
        near = seen_by(window, call.query.shape[2], call.key.shape[2], call.offset, begins)
        far = torch.zeros(call.num_heads, dtype=torch.bool)
        far[list(chosen.get(call.layer, ()))] = True
        return inner(replace(call, mask=explicit_mask(call) & (near | far[None, :, None, None])))

    with running(model, by_hand):
        wanted = model(ids, attention_mask=mask).logits
    with sparsify(model, DENSE, window) as sparse:
        found = model(ids, attention_mask=mask).logits
        for cache in (None, sparse.cache(), DynamicCache()):
            with pytest.raises(BadInput, match="slides"):
                model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=3, past_key_values=cache)
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_dense_heads_may_be_written_as_text():
    model, inputs = tiny_model("smolvlm"), tiny_inputs("smolvlm")
    with sparsify(model, str(DENSE), Window(4, 2)):
        found = model(**inputs).logits
    with sparsify(model, DENSE, Window(4, 2)):
        assert torch.equal(model(**inputs).logits, found)
