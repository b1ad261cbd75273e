"""The command line: results for good input; one line, exit code 2 and nothing written for bad."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from corelib.tasks import task


def run(*arguments, **options):
    command = [sys.executable, "-m", "corelib.cli", "--threads", "1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_profile_writes_the_same_file_twice(tmp_path):
    files = []
    for name in ("one.json", "two.json"):
        done = run("profile", "--samples", 4, "--out", tmp_path / name)
        assert done.returncode == 0 and done.stdout == "" and done.stderr == "", done.stderr
        files.append(json.loads((tmp_path / name).read_text()))
    assert files[0]["schema"] == "corelib/head-scores/1" and files[0]["task"]["samples"] == 4
    for payload in files:
        payload.pop("seconds")
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "two.json"]


def test_ask_answers_and_saves_where_it_looked(tmp_path):
    sample = task("scenes").sample("test", 0, 0)
    sample.images[0].save(tmp_path / "scene.png")
    arguments = ["ask", "--image", tmp_path / "scene.png", "--question", sample.question]
    done = run(*arguments, "--save", tmp_path / "look.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit() and (tmp_path / "look.png").stat().st_size > 1000


def test_help_teaches():
    text = run("--help").stdout
    assert "attention heads that fetch" in text and all(name in text for name in ("ask", "profile", "train"))
    assert "RAM" in run("profile", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["profile", "--model", "mini-z", "--out", "s.json"], "unknown model 'mini-z'"),
        (["profile", "--model", ".", "--out", "s.json"], "is not a model"),
        (["profile", "--domain", "scene", "--out", "s.json"], "did you mean 'scenes'"),
        (["profile", "--samples", 0, "--out", "s.json"], "samples and batch must be 1 or more"),
        (["profile", "--samples", 2, "--seed", -1, "--out", "s.json"], "seed and index must be 0 or more"),
        (["profile", "--split", "dev", "--out", "s.json"], "unknown split 'dev'"),
        (["profile", "--variant", "rams", "--out", "s.json"], "unknown variant of RAM"),
        (["profile", "--out", "nowhere/s.json"], "the folder nowhere does not exist"),
        (["ask", "--image", "none.png", "--question", "digit on red square ?"], "cannot read the picture"),
        (["train", "none.toml", "--out", "run"], "cannot read the recipe"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, says):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert done.stderr.startswith("corelib: ") and len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


def test_tampered_weights_stop_the_command(tmp_path):
    import shutil

    from corelib import embedded

    folder = shutil.copytree(embedded.home("mini-s"), tmp_path / "mini")
    with open(folder / embedded.WEIGHTS, "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    done = run("profile", "--model", folder, "--samples", 2, "--out", tmp_path / "s.json")
    assert done.returncode == 2 and "is damaged" in done.stderr and not (tmp_path / "s.json").exists()
