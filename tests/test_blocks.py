"""A rest that chooses: by hand, by properties, and against attention that is masked in a loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from tiny import tiny_model

from corelib.attention.record import record
from corelib.core.errors import BadInput
from corelib.sparse import Window, sparsify
from corelib.sparse.blocks import Blocks, block_mask, blocks_for, choose_blocks
from corelib.tasks import task

sizes = {"rows": some.integers(1, 40), "size": some.integers(1, 9), "count": some.integers(0, 5)}


def drawn(keys, seed, rows=None):
    made = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(2, 3, keys, 4, generator=made) for _ in range(2))
    return (query if rows is None else query[:, :, -rows:]), key


@given(**sizes, sinks=some.integers(0, 4), seed=some.integers(0, 99))
def test_what_a_row_sees(rows, size, count, sinks, seed):
    query, key = drawn(rows, seed)
    blocks = Blocks(count, size, sinks)
    seen = block_mask(query, key, blocks)
    row, at = torch.arange(rows)[:, None], torch.arange(rows)
    near = (at // size >= row // size - 1) & (at <= row)
    assert not seen[..., at > row].any()  # nothing behind itself
    assert seen[..., near].all() and seen[..., (at < sinks) & (at <= row)].all()
    far = seen & (at // size < row // size - 1) & (at >= sinks)
    assert (far.sum(-1) <= count * size).all()
    assert seen.double().sum(-1).mean() <= blocks.mean_seen(rows) + 1e-9


@given(**sizes, seed=some.integers(0, 99))
def test_it_is_a_loop_over_blocks(rows, size, count, seed):
    query, key = drawn(rows, seed)
    seen = block_mask(query, key, Blocks(count, size, sinks=0))[1, 2]
    for first in range(0, rows, size):
        pooled = query[1, 2, first : first + size].mean(0)
        others = [key[1, 2, start : start + size].mean(0) for start in range(0, max(0, first - size), size)]
        scores = torch.tensor([float(pooled @ one) for one in others])
        chosen = set(scores.argsort(descending=True)[:count].tolist())
        for block in range(len(others)):
            assert seen[first, block * size : (block + 1) * size].all() == (block in chosen)


@given(rows=some.integers(1, 40), size=some.integers(1, 9), seed=some.integers(0, 99))
def test_all_blocks_are_all_keys(rows, size, seed):
    assert torch.equal(
        block_mask(*drawn(rows, seed), Blocks(rows, size, 0))[0, 0], torch.ones(rows, rows, dtype=torch.bool).tril()
    )


@given(size=some.integers(1, 9), blocks=some.integers(1, 5), count=some.integers(0, 3), seed=some.integers(0, 99))
def test_a_later_block_is_read_as_in_a_whole_pass(size, blocks, count, seed):
    query, key = drawn(size * blocks, seed)
    whole = block_mask(query, key, Blocks(count, size))
    later = block_mask(query[:, :, -size:], key, Blocks(count, size), offset=size * (blocks - 1))
    assert torch.equal(whole[:, :, -size:], later)


@pytest.mark.parametrize("name", ["smolvlm", "qwen3_vl"])
def test_dense_heads_see_everything_and_the_others_what_they_choose(name):
    model = tiny_model(name)
    words = torch.arange(5, 45)[None] % 50 + 5
    with torch.no_grad(), choose_blocks(model, "L1H0", Blocks(0, size=4, sinks=2)), record(model, rows=-1) as found:
        model(input_ids=words)
    looks = found.stack()[:, 0, :, 0] > 0  # [layer, head, key] of the last row
    near = torch.tensor([key < 2 or key >= 32 for key in range(40)])
    assert looks[1, 0].all() and not looks[0, :, ~near].any() and not looks[1, 1:, ~near].any()
    assert looks[0][:, near].all()


def test_no_block_is_a_window_of_two_blocks_at_its_end(vlm):
    """Where a row is the last of its block, its own block and the one before are a window."""
    batch = vlm.encode(task("scenes").samples("test", 0, 1))
    length = batch.tokens.shape[1]
    with torch.no_grad():
        whole = vlm.model(**batch.inputs).logits
        with choose_blocks(vlm.model, "", Blocks(length, size=4)):
            torch.testing.assert_close(vlm.model(**batch.inputs).logits, whole, rtol=1e-4, atol=1e-4)
        with choose_blocks(vlm.model, "", Blocks(0, size=length, sinks=0)):
            torch.testing.assert_close(vlm.model(**batch.inputs).logits, whole, rtol=1e-4, atol=1e-4)
        with choose_blocks(vlm.model, "", Blocks(0, size=1, sinks=3)):
            blocks = vlm.model(**batch.inputs).logits
        with sparsify(vlm.model, "", Window(2, sinks=3)):
            torch.testing.assert_close(vlm.model(**batch.inputs).logits, blocks, rtol=1e-4, atol=1e-4)


def test_bad_input_is_refused(vlm):
    for wrong in ({"count": -1}, {"count": 1, "size": 0}, {"count": True}, {"count": 1, "sinks": -1}, {"count": 0.5}):
        with pytest.raises(BadInput, match="give a whole number"):
            Blocks(**wrong)
    with pytest.raises(BadInput, match="L0H9"), choose_blocks(vlm.model, "L0H9", Blocks(1)):
        pass


def test_as_many_blocks_as_keys():
    for keys in (40, 100, 260):
        found = blocks_for(keys, 1024)
        others = (Blocks(found.count + step, 32, 4) for step in (-1, 1) if found.count + step >= 0)
        assert all(abs(found.mean_seen(1024) - keys) <= abs(one.mean_seen(1024) - keys) for one in others)
