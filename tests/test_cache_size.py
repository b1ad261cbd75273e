"""What a cache takes by counting is what it takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from tiny import tiny_model
from transformers import DynamicCache

from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.sparse import Window, sparsify
from corelib.sparse.cache_size import CacheSize


@pytest.mark.parametrize("name", ["smolvlm", "qwen3_vl"])
@pytest.mark.parametrize("tokens", [3, 8, 30])
def test_counted_bytes_are_those_of_the_cache(name, tokens):
    model, dense, window = tiny_model(name), HeadSet("L0H1 L1H0"), Window(5, sinks=2)
    words, size = torch.arange(5, 5 + tokens)[None], CacheSize.of(model, dense)
    plain = DynamicCache()
    with torch.no_grad():
        model(input_ids=words, past_key_values=plain, use_cache=True)
        with sparsify(model, dense, window) as sparse:
            cache = sparse.cache()
            model(input_ids=words, past_key_values=cache, use_cache=True)
    assert size.dense_bytes(tokens) == sum(layer.keys.nbytes + layer.values.nbytes for layer in plain.layers)
    assert size.bytes(tokens, window) == cache.nbytes


sizes = some.builds(
    lambda far, more, dim: CacheSize(far + more, far, dim, 4),
    some.integers(0, 9),
    some.integers(1, 9),
    some.integers(1, 64),
)


@given(sizes, some.integers(1, 10**6), some.integers(1, 50), some.integers(0, 9))
def test_one_token_more_does_not_fit(size, budget, width, sinks):
    window = Window(width, sinks)
    longest = size.longest(budget, window)
    if longest is None:
        assert size.far == 0 and size.bytes(10**9, window) <= budget
    else:
        assert size.bytes(longest, window) <= budget < size.bytes(longest + 1, window)
    dense = size.dense_longest(budget)
    assert size.dense_bytes(dense) <= budget < size.dense_bytes(dense + 1)
    assert longest is None or longest >= dense


def test_bad_input_is_refused():
    size = CacheSize(4, 1, 8, 4)
    with pytest.raises(BadInput, match="a budget of 0 bytes"):
        size.longest(0, Window(4))
    with pytest.raises(BadInput, match="a budget of -1 bytes"):
        size.dense_longest(-1)
    with pytest.raises(BadInput, match="L9H0"):
        CacheSize.of(tiny_model("smolvlm"), HeadSet("L9H0"))
