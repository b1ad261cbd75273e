"""Times of hybrid attention: what is measured, what is promised, and what is refused before it begins."""

from __future__ import annotations

import json
from contextlib import nullcontext, suppress
from dataclasses import replace
from importlib import import_module

import pytest
import torch
import typer
from tiny import HEADS, KV_HEADS, shrunk, tiny_model

from corelib.benchmarks import kept_lengths, phases, speed, timing
from corelib.benchmarks.load import MachineLoad
from corelib.benchmarks.speed import Speed, SpeedAt, ideal, measure_speed
from corelib.benchmarks.timing import Compared, Sizes, attention_seconds, machine_facts
from corelib.cli import app
from corelib.cli.console import out
from corelib.cli.tables import show_speed
from corelib.core import memory
from corelib.core.errors import BadInput, CorelibError, UnknownName
from corelib.core.heads import HeadSet
from corelib.core.memory import working_bytes
from corelib.core.results import software
from corelib.core.values import AccuracyKept, BenchFacts, Estimate, WindowFacts
from corelib.experiments.out_of_window import accuracy_kept
from corelib.families import sizes
from corelib.models.load import load
from corelib.sparse import Window
from corelib.tasks import task

TINY = BenchFacts("tiny", "random", 2, 2, HEADS, KV_HEADS)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(sizes, "SIZES", {name: shrunk(size) for name, size in sizes.SIZES.items()})


def test_published_sizes():
    """Parameters of the language part and the tower, counted by hand for one layer of Qwen3-VL-2B."""
    whole, one, two = (sizes.weight_bytes("qwen3-vl-2b", layers) for layers in (None, 1, 2))
    attention = 2048 * 128 * (16 + 8 + 8 + 16) + 2 * 128
    layer = attention + 3 * 2048 * 6144 + 2 * 2048
    assert two - one == 2 * layer and whole - one == 27 * 2 * layer
    assert sizes.weight_bytes("qwen3-vl-2b", 1, torch.float32) == 2 * one
    assert sizes.SIZES["qwen3-vl-32b"].layers == 64
    with pytest.raises(BadInput, match="this model has 28"):
        sizes.build_size("qwen3-vl-2b", layers=29)
    with pytest.raises(UnknownName, match="did you mean 'qwen3-vl-2b'"):
        sizes.build_size("qwen3-vl-2")


@pytest.mark.parametrize("name", ["qwen3-vl-2b", "qwen3-vl-8b", "internvl3.5-8b", "llava-onevision-7b"])
@torch.no_grad()
def test_pictures_are_as_many_tokens_as_is_said(small, name):
    """transformers refuses a prompt whose visual tokens do not match the pictures."""
    model = sizes.build_size(name, dtype=torch.float32)
    assert not any(parameter.isnan().any() for parameter in model.parameters())
    each = sizes.EACH[sizes.SIZES[name].family]
    for tokens, count in ((1, 1), (2 * each + 3, 2)):
        inputs = sizes.image_inputs(name, tokens, dtype=torch.float32)
        assert int((inputs["input_ids"] == sizes.IMAGE).sum()) == count * each
    found = model(**sizes.image_inputs(name, each, dtype=torch.float32), logits_to_keep=1).logits
    assert found.shape == (1, 1, 64) and found.isfinite().all()


@torch.no_grad()
def test_what_is_measured(tmp_path, small):
    model = sizes.build_size("qwen3-vl-2b", dtype=torch.float32)
    options = {"facts": TINY, "repeats": 2, "busy": True}
    found = measure_speed(model, HeadSet("L0H1"), Window(8, 4), [40, 64], **options)
    assert Speed.load(found.save(tmp_path / "bench.json")) == found
    assert [row.tokens for row in found.lengths] == [40, 64]
    assert found.accuracy is None
    for row in found.lengths:
        assert row.first is None and row.backend == "fold"
        assert all(held is None or held >= 0 for held in vars(row.memory).values())
        for name in ("attention", "prefill", "decode"):
            one = getattr(row, name)
            assert one.speedup == one.dense.seconds / one.hybrid.seconds
            assert all(way.least <= way.seconds <= way.most for way in (one.dense, one.hybrid))
        assert row.attention.dense.seconds < row.prefill.dense.seconds
        each, steps = 2 * 16 * 4, 1 + 2 * phases.STEPS  # a key and a value of 16 floats
        assert row.cache.dense == 2 * 2 * (row.tokens + steps) * each
        assert row.cache.hybrid == (row.tokens + steps + 3 * (4 + 7)) * each
    see = lambda tokens: sizes.image_inputs("qwen3-vl-2b", tokens, dtype=torch.float32)  # noqa: E731
    first = measure_speed(model, HeadSet(), Window(8, 4), [40], pictures=see, **options).lengths[0].first
    assert first.tokens == 4 + 1026 + 16 and first.ideal >= 1


def test_the_promise():
    window = Window(100, sinks=0)
    assert ideal(0.0, 0.5, window, 1000) == 1
    assert ideal(1.0, 1.0, window, 1000) == 1
    left = (sum(range(1, 101)) + 900 * 100) / sum(range(1, 1001))
    assert ideal(1.0, 0.0, window, 1000) == pytest.approx(1 / left)
    assert ideal(0.5, 0.1, window, 1000) == pytest.approx(1 / (0.5 + 0.5 * (0.1 + 0.9 * left)))


def test_the_stopwatch_counts_the_attention_alone(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))
    model = tiny_model("smolvlm")
    with attention_seconds(model) as watch:
        model(input_ids=torch.tensor([[5, 6, 7]]))
    assert watch() == 2  # two layers, a tick each
    assert next(ticks) == 4


def test_bad_input_is_refused_before_it_begins(run, tmp_path, monkeypatch):
    model, options = tiny_model("smolvlm"), {"facts": TINY}
    for lengths, repeats in (([], 1), ([3], 1), ([30], 0)):
        with pytest.raises(BadInput, match="give lengths beyond the 4 sinks"):
            measure_speed(model, HeadSet(), Window(8), lengths, repeats=repeats, **options)
    for lengths in ([12], [40, 10]):
        with pytest.raises(BadInput, match="give a smaller window, or longer sequences"):
            measure_speed(model, HeadSet(), Window(8), lengths, **options)
    with pytest.raises(BadInput, match="compiled for GPUs"):
        measure_speed(model, HeadSet(), Window(8), [30], backends=["flex"], **options)
    with pytest.raises(UnknownName, match="did you mean 'fold'"):
        measure_speed(model, HeadSet(), Window(8), [30], backends=["fald"], **options)
    with pytest.raises(BadInput, match=f"heads 0–{HEADS - 1}"):
        measure_speed(model, HeadSet("L0H9"), Window(8), [30], **options)
    monkeypatch.setattr(memory, "free_memory", lambda device: working_bytes(model, 50))
    monkeypatch.setattr(phases.Phases, "at", lambda *given: pytest.fail("it began"))
    with pytest.raises(BadInput, match=r"51 tokens \(beside the weights\) need about"):
        measure_speed(model, HeadSet(), Window(8), [20, 51], **options)

    for arguments, message in (
        (["--lengths", "1m"], "numbers of tokens"),
        (["--window", 0], "width is 0"),
        (["--lengths", 512], "are all of 512 tokens"),
        (["--geometry", "qwen3-vl-3b"], "did you mean"),
        (["--layers", 99], "this model has 28"),
        (["--dense", "0%"], "--dense 0%"),
        (["--questions", 8], "--questions 8"),
        (["--backend", "flax"], "unknown backend"),
        (["--model", "mini-s"], "belong together"),
        (["--out", tmp_path / "none" / "bench.json"], "does not exist"),
    ):
        with pytest.raises(CorelibError, match=message):
            app(["bench", *map(str, arguments)], standalone_mode=False)
    assert not list(tmp_path.iterdir())
    done = run("bench", "--window", 0)
    assert done.returncode == 2 and done.stderr == "corelib: width is 0: give a whole number of tokens, 1 or more\n"


def test_the_command_on_trained_weights(run, tmp_path):
    assert run("score", "--samples", 4, "--out", tmp_path / "scores.json").returncode == 0
    scores = ["--model", "mini-s", "--scores", tmp_path / "scores.json", "--dtype", "float32"]
    done = run(
        "bench", *scores, "--lengths", "96,128", "--window", 8, "--sinks", 4, "--repeats", 1, "--busy",
        "--questions", 8, "--out", tmp_path / "b",
    )  # fmt: skip
    assert done.returncode == 0 and "by counting" in done.stdout and "accuracy: dense" in done.stdout, done.stderr
    found = json.loads((tmp_path / "b").read_text())
    assert found["schema"] == "corelib/bench/1" and found["model"]["weights"] == "trained"
    assert len(found["dense"]) == 3 and found["machine"]["threads"] == 1
    kept = found["accuracy"]
    assert kept["task"]["split"] == "test" and 0 < kept["task"]["counted"] <= 8
    loss = kept["dense"]["accuracy"] - kept["hybrid"]["accuracy"]
    assert kept["hybrid"]["loss"]["value"] == pytest.approx(loss)


def stop_after_one(done, of):
    """A progress that is interrupted when one length is done."""
    if done == 1:
        raise KeyboardInterrupt


@pytest.fixture
def alone(monkeypatch):
    """No second is spent on asking what else the machine does."""
    monkeypatch.setattr(speed, "require_quiet", lambda busy: 0.1)
    monkeypatch.setattr(kept_lengths, "cores_busy", lambda: 0.2)


def test_a_run_that_was_stopped_goes_on(tmp_path, small, alone):
    """What is done is kept to the last digit, of the same run alone."""
    model, store = sizes.build_size("qwen3-vl-2b", dtype=torch.float32), tmp_path / "kept"
    options = {"facts": TINY, "repeats": 1, "store": store}
    with pytest.raises(KeyboardInterrupt):
        measure_speed(model, HeadSet("L0H1"), Window(8, 4), [40, 64], **options, progress=stop_after_one)
    [first], begun = Speed.load(store).lengths, store.read_text()

    def goes_on(*, kept=begun, dense="L0H1", window=(8, 4), lengths=(40,), **changed):
        store.write_text(kept)
        found = measure_speed(model, HeadSet(dense), Window(*window), lengths, **options | changed)
        assert [row.tokens for row in found.lengths] == list(lengths)
        return first in found.lengths

    assert first.tokens == 40 and goes_on() and goes_on(lengths=(64, 40)) and not goes_on(lengths=(64,))
    assert not goes_on(dense="L1H1") and not goes_on(window=(8, 5)) and not goes_on(repeats=2)
    assert not goes_on(facts=replace(TINY, dtype="float32")) and not goes_on(facts=replace(TINY, sha256="0"))
    assert not goes_on(kept=begun.replace('"threads": ', '"threads": 9'))
    assert not goes_on(kept=begun.replace('"cores": ', '"cores": 9'))  # another machine
    assert not goes_on(kept=begun.replace(torch.__version__, "2.0.0"))
    assert not goes_on(kept=begun[:-9])  # damaged


def test_other_work_in_either_go_is_told(tmp_path, small, alone):
    model, store = sizes.build_size("qwen3-vl-2b", dtype=torch.float32), tmp_path / "kept"
    options = {"facts": TINY, "repeats": 1, "store": store}
    assert measure_speed(model, HeadSet(), Window(8, 4), [40], **options).other_work == MachineLoad(0.1, 0.2)
    begun = Speed.load(store)
    replace(begun, other_work=MachineLoad(1.0, None)).save(store)
    found = measure_speed(model, HeadSet(), Window(8, 4), [40, 64], **options)
    assert found.other_work == MachineLoad(1.0, 0.2) and found.seconds > begun.seconds


def test_the_command_goes_on(tmp_path, monkeypatch, small, alone):
    """Stopped after the first length; then the same command, which leaves nothing but its result."""
    target = tmp_path / "b.json"
    command = (
        f"bench --lengths 40,64 --window 8 --sinks 4 --layers 1 --repeats 1 --dtype float32 --out {target}".split()
    )
    with monkeypatch.context() as patch:
        patch.setattr(import_module("corelib.cli.bench"), "bar", lambda name: nullcontext(stop_after_one))
        with suppress(KeyboardInterrupt, typer.Abort):  # or it exits with 130, as typer's version has it
            app(command, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == [".b.json.partial"]
    [first] = Speed.load(tmp_path / ".b.json.partial").lengths
    app(command, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    assert Speed.load(target).lengths[0] == first


def test_a_window_that_reaches_everything_tests_nothing():
    vlm, work = load("mini-s"), task("scenes")
    with pytest.raises(BadInput, match="a window of 99 keys reaches the evidence"):
        accuracy_kept(vlm, work.draw("test", samples=4), HeadSet(), Window(99))
    kept = accuracy_kept(vlm, work.draw("test", samples=16), HeadSet.all(vlm.num_layers, vlm.num_heads), Window(8))
    assert kept.hybrid == AccuracyKept(**vars(kept.dense), loss=Estimate(0.0, 0.0, 0.0))


def test_from_where_on_windows_pay(tmp_path):
    def took(ratio):
        return Compared.of({"dense": [ratio], "hybrid": [1.0]})

    def timed_at(ratios):
        rows = [
            SpeedAt(n, "fold", took(2.0), took(ratio), took(1.0), Sizes(None, None), Sizes(None, None))
            for n, ratio in ratios.items()
        ]
        return Speed(
            TINY, HeadSet(), WindowFacts(8, 4), 1, tuple(rows), machine_facts(torch.device("cpu")), software(), 1.0
        )

    assert timed_at({512: 0.5, 1024: 1.2, 2048: 0.9, 4096: 1.0, 8192: 2.0}).crossover() == 4096
    assert timed_at({512: 1.5, 1024: 1.2}).crossover() == 512
    assert timed_at({512: 1.5, 1024: 0.9}).crossover() is None
    assert timed_at({512: 0.5}).crossover("attention") == 512 and timed_at({512: 0.5}).crossover("first") is None
    with pytest.raises(UnknownName):
        timed_at({512: 0.5}).crossover("prefil")
    with out.capture() as shown:
        show_speed(timed_at({512: 0.5, 1024: 1.2}))
    assert "windows pay from 1024 tokens on here" in shown.get()
    with out.capture() as shown:
        show_speed(timed_at({512: 0.5}))
    assert "windows do not pay at up to 512 tokens here" in shown.get()
