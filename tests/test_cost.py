"""What reading RAM costs: the ways agree, the peak is a peak, and what will not fit is not tried."""

from __future__ import annotations

import pytest
import torch
from tiny import shrunk

from corelib.attention.interface import attention_implementation, attention_modules
from corelib.benchmarks import record_cost
from corelib.benchmarks.record_cost import RecordCost, eager_bytes, measure_record_cost, ways
from corelib.benchmarks.timing import peak_bytes
from corelib.core.errors import BadInput
from corelib.core.values import BenchFacts
from corelib.families import sizes

TINY = BenchFacts("tiny", "random", 2, 2, 4, 2)


@pytest.fixture(scope="module")
def model():
    whole = sizes.SIZES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "SIZES", {name: shrunk(size) for name, size in whole.items()})
        return sizes.build_size("qwen3-vl-2b", dtype=torch.float32)


@torch.no_grad()
def test_all_ways_read_the_same(model):
    found = {name: way() for name, way in ways(model, 96).items()}
    assert found["plain"] is None and found["record"].shape == (2, 4, record_cost.ROWS)
    torch.testing.assert_close(found["record"], found["eager"], atol=1e-5, rtol=1e-4)


def test_eager_is_undone(model):
    configs = {module.config._attn_implementation for module in attention_modules(model)}
    with pytest.raises(RuntimeError), attention_implementation(model, "eager"):
        raise RuntimeError
    assert {module.config._attn_implementation for module in attention_modules(model)} == configs


def test_the_peak_is_the_most_that_was_held():
    with peak_bytes(torch.device("cpu")) as held:
        torch.ones(40_000_000)  # 160 MB, and gone
        torch.ones(10_000_000)
    if held() is None:
        pytest.skip("this system does not tell")
    assert 100e6 < held() < 230e6  # other threads come and go
    with peak_bytes(torch.device("cpu")) as held:
        pass
    assert held() < 50e6


@torch.no_grad()
def test_what_does_not_fit_is_not_tried(model, monkeypatch, tmp_path):
    monkeypatch.setattr(record_cost, "free_memory", lambda device: eager_bytes(model, 110))
    found = measure_record_cost(model, [96, 128], facts=TINY, repeats=1)
    assert RecordCost.load(found.save(tmp_path / "cost.json")) == found
    first, second = found.lengths
    assert eager_bytes(model, 128) == 128**2 * 4 * (2 * 4 + 8) == second.eager.would_need
    assert first.eager.seconds > 0
    assert all(way.seconds > 0 for row in found.lengths for way in (row.plain, row.record))


def test_bad_input_is_refused(model):
    for options in ({"lengths": []}, {"lengths": [10]}, {"lengths": [96], "repeats": 0}):
        with pytest.raises(BadInput, match="tokens or more"):
            measure_record_cost(model, **options, facts=TINY)
    with pytest.raises(BadInput, match="take fewer tokens"):
        measure_record_cost(model, [10**9], facts=TINY)
