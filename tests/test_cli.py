"""The command line: results for good input; one line, exit code 2 and nothing written for bad."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.stats import spearmanr
from values import some_scores

from corelib.analysis.concentration import gini
from corelib.core.head_scores import HeadScores
from corelib.tasks import task


def start(*arguments, **options):
    """A command in a process of its own. One good and one bad command go this way; the others by the fixture `run`."""
    command = [sys.executable, "-m", "corelib.cli", "--threads", "1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_profile_writes_the_same_file_twice(run, tmp_path):
    """Once in a process of its own, once in this one."""
    files = []
    for name, command in (("one.json", start), ("two.json", run)):
        done = command("score", "--samples", 4, "--out", tmp_path / name)
        assert done.returncode == 0 and done.stdout == "", done.stderr
        assert done.stderr.startswith("mini-s: about ") and len(done.stderr.splitlines()) == 1, done.stderr
        files.append(json.loads((tmp_path / name).read_text()))
    assert files[0]["schema"] == "corelib/head-scores/2" and files[0]["task"]["samples"] == 4
    for payload in files:
        payload.pop("seconds")
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "two.json"]


def test_profile_takes_many_and_goes_on_where_it_was(run, tmp_path):
    """Two domains, one metric; killed in the second, it does not redo the first batch of it."""
    arguments = ["score", "--domain", "scenes", "--domain", "needle", "--metric", "box_hit", "--samples", 4]
    done = run(*arguments, "--batch-size", 2, "--out", tmp_path / "scores")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == [
        "mini-s-needle.json",
        "mini-s-scenes.json",
    ]
    whole = json.loads((tmp_path / "scores" / "mini-s-needle.json").read_text())
    assert whole["metric"] == {"quantity": "box_hit", "rows": "answer", "reduce": "mean"}

    from corelib.experiments.score_heads import measure_heads
    from corelib.models.load import load

    def die(done, total):
        if done == 2:
            raise KeyboardInterrupt

    wanted = {"quantities": ["box_hit"], "keys": ["answer/mean/box_hit"]}
    vlm, partial = load("mini-s"), tmp_path / "again" / ".mini-s-needle.json.partial"
    partial.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        measure_heads(
            vlm, task("needle").draw("select", samples=4), batch_size=2, store=partial, progress=die, **wanted
        )
    first = next(partial.iterdir())
    before = first.stat().st_mtime_ns
    kept = partial.parent / "kept"
    kept.hardlink_to(first)
    done = run(*arguments, "--batch-size", 2, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert kept.stat().st_mtime_ns == before and not partial.exists()
    again = json.loads((tmp_path / "again" / "mini-s-needle.json").read_text())
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}


def test_rank_says_what_the_files_say(run, tmp_path):
    for domain in ("scenes", "documents"):
        assert run("score", "--domain", domain, "--samples", 24, "--out", tmp_path / f"{domain}.json").returncode == 0
    files = [tmp_path / "scenes.json", tmp_path / "documents.json"]
    said = run("compare", *files)
    assert said.returncode == 0 and "by chance" in said.stdout and "Gini" in said.stdout, said.stderr
    payload = json.loads(run("compare", *files, "--top", "10%", "--json").stdout)
    first, pair = payload["files"][0], payload["pairs"][0]
    assert len(first["order"]) == 48 and first["top"] == sorted(first["order"][:5]) and first["reliability"]
    one, two = map(HeadScores.load, files)
    assert first["sparsity"]["gini"] == pytest.approx(gini(one))
    assert pair["spearman"] == pytest.approx(spearmanr(np.ravel(one), np.ravel(two)).statistic)
    assert {*pair["top"]["shared"]} <= {*first["top"]}


def _scores(path, **changes):
    table = [[0.1, 0.2], [0.3, 0.4]]
    some_scores(table).save(path)
    payload = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(payload))
    return path


@pytest.mark.parametrize(
    ("changes", "top", "says"),
    [
        ({"schema": "corelib/head-scores/1"}, "5%", "has schema"),
        ({"scores": [[0.1, float("nan")], [0.3, 0.4]]}, "5%", "scores.0.1: Input should be a finite number, got nan"),
        ({"scores": [[0.1, 0.2]]}, "5%", "the size that model gives"),
        ({}, "0%", "above 0 and up to 100"),
        ({}, "101%", "above 0 and up to 100"),
        ({}, "0.05", "such as 5%"),
    ],
)
def test_rank_refuses(run, tmp_path, changes, top, says):
    one, two = _scores(tmp_path / "one.json"), _scores(tmp_path / "two.json", **changes)
    done = run("compare", one, two, "--top", top, "--json")
    assert done.returncode == 2 and says in done.stderr and done.stdout == "", (done.stdout, done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


def test_ablate_removes_and_compares(run, tmp_path):
    from corelib import atlas

    ranking = atlas.cell("mini-s", "scenes").scores().save(tmp_path / "scores.json")
    arguments = ("ablate", "--scores", ranking, "--out", tmp_path / "ablation.json", "--samples", 16)
    done = run(*arguments, "--draws", 4)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    payload = json.loads((tmp_path / "ablation.json").read_text())
    assert payload["schema"] == "corelib/ablation/1" and payload["task"]["split"] == "test" and payload["dose"] is None
    assert len(payload["null"]["layer_matched"]["sets"]) == len(payload["null"]["norm_matched"]["sets"]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ablation.json", "scores.json"]
    (tmp_path / "ablation.json").unlink()
    for more, says in (
        (("--split", "select"), "ranked on these samples"),
        (("--top", "5"), "such as 5%"),
        (("--mode", "zap"), "ablation mode"),
        (("--domain", "arithmetic", "--questions", "1"), "has no evidence"),
        (("--top", "60%"), "not as many others"),
    ):
        done = run(*arguments, *more)
        assert done.returncode == 2 and says in done.stderr, done.stderr
        told = [line for line in done.stderr.strip().splitlines() if " of memory: " not in line]
        assert len(told) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.json"]


def test_ask_answers_and_saves_where_it_looked(run, tmp_path):
    sample = task("scenes").sample("test", 0, 0)
    sample.images[0].save(tmp_path / "scene.png")
    arguments = ["ask", "--image", tmp_path / "scene.png", "--question", sample.question]
    done = run(*arguments, "--save", tmp_path / "look.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit() and (tmp_path / "look.png").stat().st_size > 1000


def test_ask_tells_heads_where_to_look(run, tmp_path):
    sample = task("scenes").sample("test", 0, 0)
    sample.images[0].save(tmp_path / "scene.png")
    box = sample.distractors[0]
    arguments = ["ask", "--image", tmp_path / "scene.png", "--question", sample.question, "--look"]
    done = run(*arguments, f"{box.x0},{box.y0},{box.x1},{box.y1}", "--save", tmp_path / "look.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{sample.answer}  by itself\n") and "3 heads looking at" in done.stdout
    assert (tmp_path / "look.png").stat().st_size > 1000
    for wrong, says in (
        ("1,2,3", "give x0,y0,x1,y1"),
        ("0,0,9999,10", "does not lie"),
        ("0,0,32,32,1", "picture 1 of 1"),
    ):
        refused = run(*arguments, wrong)
        assert refused.returncode == 2 and says in refused.stderr


def test_locate_shows_where_an_answer_was_read(run, tmp_path):
    sample = task("documents").sample("test", 0, 3)
    for number, page in enumerate(sample.images):
        page.save(tmp_path / f"page{number}.png")
    pages = [part for number in range(len(sample.images)) for part in ("--image", tmp_path / f"page{number}.png")]
    done = run("locate", *pages, "--question", sample.question, "--save", tmp_path / "found.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(sample.answer) and f"page{sample.evidence[0].image}.png: " in done.stdout
    assert (tmp_path / "found.png").stat().st_size > 1000
    refused = run("locate", *pages, "--question", sample.question, "--model", "tiny-random:qwen3-vl")
    assert refused.returncode == 2 and "corelib score" in refused.stderr


def test_help_teaches(run):
    text = run("--help").stdout
    commands = ("ask", "score", "compare", "train", "atlas")
    assert "attention heads that fetch" in text and all(name in text for name in commands)
    assert "RAM" in run("score", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["score", "--model", "mini-z", "--out", "s.json"], "unknown model 'mini-z'"),
        (["score", "--model", ".", "--out", "s.json"], "is not a model"),
        (["score", "--domain", "scene", "--out", "s.json"], "did you mean 'scenes'"),
        (["score", "--samples", 0, "--out", "s.json"], "samples must be a whole number, 1 or more, got 0"),
        (["score", "--samples", 2, "--seed", -1, "--out", "s.json"], "seed must be a whole number, 0 or more, got -1"),
        (["score", "--split", "dev", "--out", "s.json"], "unknown split 'dev'"),
        (["score", "--metric", "rams", "--out", "s.json"], "unknown metric"),
        (["score", "--domain", "all", "--domain", "scenes", "--out", "s"], "stands alone"),
        (["score", "--metric", "contrast", "--domain", "needle", "--out", "s.json"], "needle cannot give contrast"),
        (["score", "--metric", "localization", "--rows", "answer", "--out", "s.json"], "read in the last row"),
        (["compare", "none.json"], "cannot read none.json"),
        (["atlas", "build", "--domain", "scene"], "did you mean 'scenes'"),
        (["atlas", "build", "--kind", "knockout"], "did you mean 'knockouts'"),
        (["score", "--out", "nowhere/s.json"], "the folder nowhere does not exist"),
        (["ask", "--image", "none.png", "--question", "digit on red square ?"], "cannot read the picture"),
        (["train", "none.toml", "--out", "run"], "cannot read the recipe"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, arguments, says):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert done.stderr.startswith("corelib: ") and len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["score", "--model", "mini-z"], "unknown model 'mini-z': did you mean 'mini-s'?"),
        (["score", "--domain", "scenez"], "unknown domain 'scenez': did you mean 'scenes'?"),
    ],
)
def test_a_misspelled_name_is_told_at_once(arguments, says, tmp_path):
    """In a process of its own: one line, nothing at all on stdout, and torch, which takes seconds, is not imported."""
    program = "import sys; from corelib.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", program, *arguments, "--out", "s.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "False\n" and list(tmp_path.iterdir()) == []
    assert done.stderr.startswith(f"corelib: {says}") and len(done.stderr.strip().splitlines()) == 1


def test_tampered_weights_stop_the_command(run, tmp_path):
    import shutil

    from corelib.core import model_folder

    folder = shutil.copytree(model_folder.bundled_folder("mini-s"), tmp_path / "mini")
    with open(folder / model_folder.WEIGHTS, "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    done = run("score", "--model", folder, "--samples", 2, "--out", tmp_path / "s.json")
    assert done.returncode == 2 and "is damaged" in done.stderr and not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["score", "--samples", 10**20], "samples must be 10,000,000 or fewer"),
        (["score", "--seed", -1], "seed must be a whole number, 0 or more"),
        (["score", "--model", "a" * 5000], "unknown model"),
        (["score", "--domain", "folder:" + "a" * 300], "is not there"),
        (["bench", "--seed", -1, "--lengths", "1k", "--layers", 1], "seed must be a whole number, 0 or more"),
        (["atlas", "build", "--out", "no/such/place"], "the folder no/such does not exist"),
        (["train", "mini-s", "--device", "zzz"], "unknown device 'zzz'"),
    ],
)
def test_absurd_values_are_one_line_and_leave_nothing(run, tmp_path, arguments, says):
    written = [] if "--out" in arguments else ["--out", "x.json"]
    done = run(*arguments, *written, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and list(tmp_path.iterdir()) == [], done.stderr
    assert done.stderr.startswith("corelib: ") and done.stderr.count("\n") == 1


def test_a_late_failure_leaves_nothing(run, tmp_path):
    """Too many questions about a picture: that shows when the first is drawn."""
    assert run("score", "--samples", 4, "--out", "s.json", cwd=tmp_path).returncode == 0
    asked = ["--samples", 1000, "--questions", 500, "--draws", 1]
    done = run("ablate", "--scores", "s.json", "--out", "x.json", *asked, cwd=tmp_path)
    assert done.returncode == 2 and "500 questions about a picture" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]
    many = run("ablate", "--scores", "s.json", "--out", "x.json", "--draws", 10**14, "--samples", 8, cwd=tmp_path)
    assert many.returncode == 2 and "draws must be 100,000 or fewer" in many.stderr


@pytest.mark.parametrize("threads", [-1, 1025, 10**30])
def test_threads_that_no_machine_has(run, tmp_path, threads):
    done = run("--threads", threads, "score", "--out", tmp_path / "x.json")
    assert done.returncode == 2 and "threads must be 0 to 1024" in done.stderr


def test_a_rank_that_is_not_there_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, says in (("5", "RANK is 5, WORLD_SIZE 2"), ("x", "RANK is 'x'")):
        monkeypatch.setenv("RANK", rank)
        done = run("score", "--samples", 2, "--out", "x.json", cwd=tmp_path)
        assert done.returncode == 2 and says in done.stderr and list(tmp_path.iterdir()) == []


TABLE = [[0.9, 0.1], [0.2, 0.3]]


def test_names_with_brackets_are_shown_whole(run, tmp_path):
    for name in ("[bold]a.json", "[red]b.json"):
        some_scores(TABLE).save(tmp_path / name)
    done = run("compare", "[bold]a.json", "[red]b.json", cwd=tmp_path)
    assert done.returncode == 0 and "[bold]a.json · [red]b.json" in done.stdout, done.stderr


def test_one_command_at_a_time_writes_a_file(run, tmp_path):
    from corelib.core.claim import claimed

    arguments = ["score", "--samples", 2, "--out", "x.json"]
    with claimed(tmp_path / ".x.json.partial"):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 2 and "another command is at work" in done.stderr
    assert list(tmp_path.iterdir()) == []
    with claimed(tmp_path / "run"):
        done = run("train", "mini-s", "--out", tmp_path / "run")
        assert done.returncode == 2 and "another command is at work" in done.stderr
    assert list(tmp_path.iterdir()) == [] and run(*arguments, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
def test_a_screen_that_lacks_signs_shows_the_others(monkeypatch, tmp_path, encoding):
    from corelib.cli import main

    some_scores(TABLE).save(tmp_path / "–a.json")
    screen = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "argv", ["corelib", "show", str(tmp_path / "–a.json")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code and "L0H0" in screen.buffer.getvalue().decode(encoding)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_output_is_one_line(tmp_path):
    some_scores(TABLE).save(tmp_path / "a.json")
    command = [sys.executable, "-m", "corelib.cli", "compare", "a.json", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "corelib: stdout: No space left on device\n"


def test_a_full_disk_leaves_no_picture(run, tmp_path, at_most):
    task("scenes").sample("test", 0, 0).images[0].save(tmp_path / "one.png")
    with at_most(1000):
        asked = ["--image", "one.png", "--question", "digit on red square ?", "--save", "look.png"]
        done = run("ask", *asked, cwd=tmp_path)
    assert done.returncode == 2 and "cannot write" in done.stderr and "File too large" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]


def test_a_stopped_command_says_that_it_goes_on(run, tmp_path):
    command = [sys.executable, "-m", "corelib.cli", "--threads", "1", "score", "--out", "x.json", "--batch-size", "1"]
    partial = tmp_path / ".x.json.partial"
    with subprocess.Popen([*command, "--samples", "100000"], stderr=subprocess.PIPE, text=True, cwd=tmp_path) as work:
        while work.poll() is None and not list(partial.glob("*.safetensors")):
            time.sleep(0.1)
        work.send_signal(signal.SIGINT)
        said = work.stderr.read().strip().splitlines()
        assert said[-1] == "corelib: stopped; the same command goes on from here" and said[0].startswith(
            "mini-s: about"
        )
    assert work.returncode == 130 and list(partial.glob("*.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == [partial.name]
    assert run("score", "--out", "x.json", "--samples", 2, "--batch-size", 1, cwd=tmp_path).returncode == 0
