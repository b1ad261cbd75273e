"""The recipes with other libraries, run as they stand in the page; left out where a library is not installed."""

from __future__ import annotations

import json
import re
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from corelib.tasks.assets import photograph

PAGE = Path(__file__).resolve().parents[1] / "book" / "recipes.md"
CHECKPOINT = "tiny-random:qwen3-vl"


def follow(monkeypatch, word: str, **names: object) -> dict[str, object]:
    """Run the block of the page that has this word, with these names; the names that it leaves."""
    torch.set_num_threads(1)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    [block] = [one for one in blocks if f"from {word}" in one]
    monkeypatch.setitem(sys.modules, "followed", type(sys)("followed"))  # where dataclasses look for its names
    followed = {"CHECKPOINT": CHECKPOINT, "__name__": "followed", **names}
    exec(compile(block, str(PAGE), "exec"), followed)
    return followed


def test_a_press_spares_the_core_heads(monkeypatch):
    if not find_spec("kvpress"):
        pytest.skip("needs kvpress")
    found = follow(monkeypatch, "kvpress")
    vlm, core, draw, said = (found[name] for name in ("vlm", "core", "draw", "said"))
    assert set(said) == {"all heads pressed", "CoRe heads spared", "spared, and removed"}
    free, everything = [found["writes"](sample) for sample in draw], found["HeadSet"].all(vlm.num_layers, vlm.num_heads)
    assert said["all heads pressed"] != free  # what is dropped matters, even to random weights

    def pressed(spared):
        with found["Spare"](found["KnormPress"](compression_ratio=0.5), spared)(vlm.model):
            return [found["writes"](sample) for sample in draw]

    assert pressed(everything) == free  # nobody is pressed
    with found["ablate"](vlm.model, found["HeadSet"]()):  # a program that changes nothing: the masks still hold
        assert pressed(core) == said["CoRe heads spared"]


def test_a_benchmark_is_answered_under_programs(monkeypatch, tmp_path):
    if not find_spec("lmms_eval"):
        pytest.skip("needs lmms-eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    photograph("coffee").save(tmp_path / "coffee.png")
    lines = [json.dumps({"picture": "coffee.png", "question": one, "answer": ""}) for one in ("What is it?", "Where?")]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines), encoding="utf-8")
    stub = {
        "task": "stub",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "lines.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": lambda line: [photograph(line["picture"].removesuffix(".png"))],
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "generation_kwargs": {"max_new_tokens": 4},
        "process_results": lambda line, said: {"length": len(said[0])},
        "metric_list": [{"metric": "length", "aggregation": statistics.mean, "higher_is_better": True}],
    }
    from lmms_eval.api.task import ConfigurableTask

    found = follow(monkeypatch, "lmms_eval", TASK=ConfigurableTask(config=stub))["found"]
    assert len(found) == 4 and all(one["stub"]["length,none"] > 0 for one in found.values())
