"""What many samples of a large model take: parts are added up, books are kept as a profile keeps them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tiny import shrunk

from corelib.benchmarks import bench_models
from corelib.benchmarks.scale import Scale, measure_scale, time_bookkeeping
from corelib.core.errors import BadInput
from corelib.families import sizes

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import cost_page  # noqa: E402


@pytest.fixture
def small(monkeypatch):
    found = {name: shrunk(size) for name, size in sizes.SIZES.items()}
    monkeypatch.setattr(sizes, "SIZES", found)
    monkeypatch.setattr(bench_models, "SIZES", found)


@pytest.mark.parametrize("name", ["qwen3-vl-32b", "internvl3.5-8b", "llava-onevision-7b"])
def test_a_sample_is_the_tower_and_all_layers(small, name, tmp_path):
    subject = bench_models.published_size(name, 0.5, layers=1, dtype=torch.float32, device="cpu")
    found = measure_scale(subject, tokens=64, samples=20, repeats=1)
    assert Scale.load(found.save(tmp_path / "scale.json")) == found
    parts = {part: times.seconds for part, times in vars(found.parts).items()}
    assert found.model.measured_layers == 1 < found.model.num_layers
    assert found.a_sample == pytest.approx(parts["tower"] + found.model.num_layers * parts["layer_with_ram"])
    assert min(parts.values()) > 0 and found.books.store > 0


def test_books_hold_a_number_a_head_and_sample(tmp_path):
    sizes = []
    for samples in (40, 80):
        (tmp_path / str(samples)).mkdir()
        sizes.append(time_bookkeeping(tmp_path / str(samples), samples, 4, 8).on_disk)
    whole = 40 * 4 * 8 * 4
    assert whole < sizes[0] < whole + 5 * 1000  # each of the five shards says what it holds
    assert sizes[1] == 2 * sizes[0]


def test_the_page_says_what_was_measured(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cost_page.py", "--check"])
    cost_page.main()  # else it stops, and says which page is not what the results say
    monkeypatch.setattr(cost_page, "page", lambda found: "")
    with pytest.raises(SystemExit):
        cost_page.main()


def test_bad_requests(small):
    whole = bench_models.published_size("qwen3-vl-2b", 0.5, dtype=torch.float32, device="cpu")
    with pytest.raises(BadInput, match="measure one layer"):
        measure_scale(whole)
    one = bench_models.published_size("qwen3-vl-2b", 0.5, layers=1, dtype=torch.float32, device="cpu")
    with pytest.raises(BadInput, match="0 repeats"):
        measure_scale(one, repeats=0)
