"""What the page "Beyond this book" says can be done: another family, several processes, the commands on any model."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from dealt import save_in
from typer.testing import CliRunner

from corelib.cli import app
from corelib.core.distributed import rank_and_world_size
from corelib.core.errors import BadInput, BadResults
from corelib.core.progress import silent
from corelib.core.sample_store import SampleStore, collect_share, in_batches
from corelib.families import tiny, tiny_configs
from corelib.models import checkpoints
from corelib.tasks.assets import photograph
from corelib.tasks.collage import Collage
from corelib.tasks.items import DEALT

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "beyond.md"
FAMILIES = tuple(tiny_configs.KINDS)
WINDOWED = tuple(name for name in FAMILIES if name != "gemma3")  # that take windows over pictures
FEW = ("--samples", 4, "--questions", 1, "--batch-size", 4)


# --- another family --------------------------------------------------------------------------------------------------


def llava(folder: Path) -> Path:
    """A tiny LLaVA 1.5 on disk."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    words = tiny.tokenizer((*tiny_configs.PLAIN, "<image>", "<video>"))
    vision = {**tiny_configs.VISION, "model_type": "clip_vision_model", "image_size": 112, "patch_size": 14}
    config = LlavaConfig(
        text_config=tiny_configs.text_config("llama", tiny_configs.SIZE),
        vision_config=vision,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=64,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    words.save_pretrained(folder)
    sides = {"size": {"shortest_edge": 112}, "crop_size": {"height": 112, "width": 112}}
    CLIPImageProcessorPil(**sides).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(tiny_configs.LLAVA, encoding="utf-8")
    return folder


def test_who_follows_the_page_adds_a_family(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FAMILIES", dict(checkpoints.FAMILIES))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    names = {"CHECKPOINT": llava(tmp_path / "llava"), "__name__": "followed"}
    monkeypatch.setitem(sys.modules, "followed", type(sys)("followed"))  # where dataclasses look for its names
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["vlm"].family.architecture == "LlavaForConditionalGeneration"
    assert len(names["scores"].top(0.05)) == 2


def test_every_family_of_the_page_is_there():
    told = re.findall(r"^\| .* \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert told == [family.architecture for family in checkpoints.FAMILIES.values()]


# --- the commands ----------------------------------------------------------------------------------------------------


def command(*arguments: object) -> None:
    """One command, in this process; it must succeed."""
    done = CliRunner().invoke(app, ["--threads", "1", *map(str, arguments)])
    assert done.exit_code == 0, done.exception or done.output


@pytest.mark.parametrize("name", FAMILIES)
def test_the_commands_take_a_tiny_model(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Collage, "available", lambda work, split, count: min(count, 4))  # enough for norms
    scores, lost = tmp_path / "scores.json", tmp_path / "ablation.json"
    model = ("--model", f"tiny-random:{name}")
    command("score", *model, "--domain", "collage", "--samples", 4, "--out", scores)
    told = json.loads(scores.read_text())
    assert told["model"]["name"] == f"tiny-random:{name}" and told["task"]["domain"] == "collage"
    command("ablate", *model, "--scores", scores, *FEW, "--draws", 3, "--out", lost)
    assert json.loads(lost.read_text())["task"]["split"] == "test"
    bench = ("--lengths", 128, "--window", 16, "--sinks", 4, "--repeats", 1, "--busy", "--dtype", "float32")
    if name in WINDOWED:  # the other is refused, see test_gemma3.py
        command("bench", *model, "--scores", scores, *bench, "--out", tmp_path / "bench.json")
    command("atlas", "build", *model, "--domain", "collage", "--samples", 4, "--out", tmp_path / "atlas")
    cell = json.loads((tmp_path / "atlas" / "cells" / f"tiny-random-{name}" / "collage.json").read_text())
    assert cell["task"]["samples"] == 4
    photograph("coffee").save(tmp_path / "coffee.png")
    command("ask", *model, "--image", tmp_path / "coffee.png", "--question", "What is it?", "--tokens", 2)


def test_your_own_pictures_from_end_to_end(run, tmp_path):
    """Real photographs, questions in a file, the two commands of the page."""
    lines = []
    for place, name in enumerate(("coffee", "rocket", "chelsea", "china", "flower", "astronaut", "retina", "brick")):
        save_in(DEALT[place % 2], photograph(name), tmp_path / f"{name}.png")
        lines.append({"image": f"{name}.png", "question": "What?", "answer": name, "boxes": [[20, 20, 200, 200]]})
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    model, domain = ("--model", "tiny-random:smolvlm"), ("--domain", f"folder:{tmp_path}")
    scores, lost = tmp_path / "scores.json", tmp_path / "ablation.json"
    command("score", *domain, *model, "--samples", 4, "--out", scores)
    command("ablate", *model, "--scores", scores, *FEW, "--draws", 2, "--out", lost)
    assert json.loads(lost.read_text())["task"]["domain"] == f"folder:{tmp_path}"
    done = run("score", *domain, *model, "--samples", 9, "--out", tmp_path / "more.json")
    assert (
        done.returncode == 2
        and "folder has 4 pictures in select, and 9 samples need 9: ask for fewer samples" in done.stderr
        and not (tmp_path / "more.json").exists()
    )


def test_what_cannot_be_loaded_is_one_line(run, tmp_path):
    done = run("score", "--model", "mini-s", "--dtype", "float16", "--out", tmp_path / "x.json")
    assert done.returncode == 2 and "takes no such options" in done.stderr
    done = run("score", "--model", "tiny-random:qwen", "--out", tmp_path / "x.json")
    assert done.returncode == 2 and "tiny-random:qwen3-vl" in done.stderr
    assert not list(tmp_path.iterdir())


# --- several processes -----------------------------------------------------------------------------------------------

COMMAND = ("score", "--model", "tiny-random:qwen3-vl", "--domain", "collage", "--samples", "8", "--batch-size", "2")


def content(path: Path) -> dict:
    found = json.loads(path.read_text())
    return {key: value for key, value in found.items() if key != "seconds"}


def test_two_processes_write_the_file_of_one(tmp_path, monkeypatch):
    """The second of two has done its half and stopped; then one goes on alone. Two at once: `test_accelerate…`."""
    command(*COMMAND, "--out", tmp_path / "alone.json")
    with monkeypatch.context() as patch:
        patch.setenv("RANK", "1")
        patch.setenv("WORLD_SIZE", "2")
        command(*COMMAND, "--out", tmp_path / "both.json")
    shards = list((tmp_path / ".both.json.partial").glob("*.safetensors"))
    assert len(shards) == 2 and not (tmp_path / "both.json").exists()
    command(*COMMAND, "--out", tmp_path / "both.json")
    assert content(tmp_path / "both.json") == content(tmp_path / "alone.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.json", "both.json"]


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """A ranking of a bundled model, of few samples."""
    path = tmp_path_factory.mktemp("ranked") / "scores.json"
    command("score", "--model", "mini-s", "--domain", "scenes", "--samples", "16", "--out", path)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("ablate", "--samples", "16", "--questions", "2", "--batch-size", "4", "--draws", "4", "--no-curve"),
        ("redirect", "--samples", "16", "--questions", "2", "--batch-size", "4", "--draws", "3", "--no-details"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_two_processes_at_once_share_a_sweep(tmp_path, ranked, arguments):
    """To the last digit the file of one process; the first one has been killed before, and goes on."""
    name, *options = arguments
    whole = [sys.executable, "-m", "corelib", "--threads", "1", name, "--scores", ranked, "--model", "mini-s", *options]
    command(*whole[5:], "--out", tmp_path / "alone.json")
    environment = {**os.environ, "WORLD_SIZE": "2"}

    def start(rank):
        mine = [*map(str, whole), "--out", str(tmp_path / "both.json")]
        return subprocess.Popen(mine, env={**environment, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)

    first = start(0)
    while not list(tmp_path.rglob("*.safetensors")) and first.poll() is None:
        time.sleep(0.05)
    first.kill()
    first.wait()
    processes = [start(0), start(1)]
    for one in processes:
        assert one.wait(timeout=240) == 0, one.stderr.read()
    assert content(tmp_path / "both.json") == content(tmp_path / "alone.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.json", "both.json"]


@pytest.mark.parametrize("late", [0, 1, 3])
def test_a_process_that_starts_late_takes_its_own_share(tmp_path, late):
    """Whatever the other one has stored by then."""
    measured = lambda indices: {"x": torch.tensor(indices)}  # noqa: E731
    begun = SampleStore(tmp_path, {})
    for first in (0, 4, 8)[:late]:
        begun.add([first, first + 1], measured([first, first + 1]))
    assert collect_share(measured, 12, in_batches(2), {}, tmp_path, silent, (1, 2)) is None
    found = collect_share(measured, 12, in_batches(2), {}, tmp_path, silent, (0, 2))
    assert found["x"].tolist() == list(range(12))


@pytest.mark.slow
def test_accelerate_launches_them(tmp_path):
    pytest.importorskip("accelerate")
    command(*COMMAND, "--out", tmp_path / "alone.json")
    launched = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launched += ["--num_cpu_threads_per_process", "1", "-m", "corelib", *COMMAND, "--out", str(tmp_path / "both.json")]
    done = subprocess.run(launched, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "both.json") == content(tmp_path / "alone.json")


def test_processes_that_do_not_come_are_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("corelib.core.sample_store.WAIT_SECONDS", 0.1)
    measured = lambda indices: {"x": torch.tensor(indices)}  # noqa: E731
    with pytest.raises(BadResults, match="2 samples of other processes did not come"):
        collect_share(measured, 4, in_batches(1), {}, tmp_path / "store", silent, (0, 2))
    assert collect_share(measured, 4, in_batches(1), {}, tmp_path / "other", silent, (1, 2)) is None
    assert SampleStore(tmp_path / "other", {}).load()["x"].tolist() == [1, 3]
    with pytest.raises(BadInput, match="need a store that they share"):
        collect_share(measured, 4, in_batches(1), {}, None, silent, (0, 2))


def test_a_share_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert rank_and_world_size() == (2, 3)
    monkeypatch.setenv("RANK", "two")
    with pytest.raises(BadInput, match="RANK is 'two'"):
        rank_and_world_size()


# --- the notebook ----------------------------------------------------------------------------------------------------


def begin(name: str, results: Path) -> str:
    """The code that empties a kernel, and names the model for what runs next."""
    settings = {"CORELIB_MODEL": f"tiny-random:{name}", "CORELIB_SAMPLES": "8", "CORELIB_RESULTS": str(results)}
    return f"%reset -f\nimport os\nos.environ.update({settings})"


@pytest.mark.slow
def test_the_notebook_runs_unchanged(tmp_path):
    """Chapter 12, every cell, on a tiny model of each family that takes windows: one after the other, in one kernel."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    chapter = nbformat.read(ROOT / "notebooks" / "12_your_own_checkpoint.ipynb", 4)
    code = [cell for cell in chapter.cells if cell.cell_type == "code"]
    whole = nbformat.v4.new_notebook()
    for name in WINDOWED:
        whole.cells += [nbformat.v4.new_code_cell(begin(name, tmp_path / name)), *copy.deepcopy(code)]
    for number, cell in enumerate(whole.cells):
        cell.id = f"cell-{number}"
    place = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(whole, timeout=300, kernel_name="python3", resources=place).execute()
    for number, name in enumerate(WINDOWED):
        saved = sorted(path.name for path in (tmp_path / name).glob("*.json"))
        assert saved == [f"tiny-random-{name}-collage-ablation.json", f"tiny-random-{name}-collage.json"]
        start = number * (1 + len(code))
        outputs = [output for cell in whole.cells[start : start + 1 + len(code)] for output in cell.outputs]
        assert not [output for output in outputs if output.output_type == "error"]
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 3, name
