"""The README's program runs, and prints what the README says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from corelib import Head, atlas

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def test_the_program_prints_what_stands_below_it():
    (program,), (told,) = blocks("python"), blocks("text")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(program, "README.md", "exec"), {})
    found, told = shown.getvalue().splitlines(), told.splitlines()
    assert len(found) == len(told) == 3
    core = [Head.parse(name) for name in found[0].split()]
    assert len(core) == 3 and found[0] == told[0]
    for one, other in zip(found[1:], told[1:], strict=True):
        assert float(one) == pytest.approx(float(other), abs=0.05)  # versions differ in the last bits
    intact, ablated = map(float, found[1:])
    assert intact > 0.9 and ablated < intact - 0.1


def test_the_figure_is_there_and_small():
    (name,) = re.findall(r"!\[[^\]]{40,}\]\((book/_static/[^)]+\.png)\)", README, flags=re.DOTALL)
    assert 10_000 < (ROOT / name).stat().st_size < 150_000


def test_the_caption_says_what_the_results_say():
    found = atlas.redirection("bridge", "scenes")
    caption = " ".join(README.split())
    told = re.search(
        r"that (\d+) of the (\d+) heads of `bridge` .* Over (\d+) other questions, (\d+) % .*"
        r" and (\d+) % that of the other (\d+)",
        caption,
    )
    heads, others = len(found.core.heads), len(found.complement.heads)
    shares = [round(100 * one.moved.value) for one in (found.core, found.complement)]
    assert list(map(int, told.groups())) == [heads, heads + others, found.task.counted, *shares, others]


def test_the_commands_exist():
    """Every `corelib …` in the README is a command, with options that it has."""
    from typer.main import get_command

    from corelib.cli import app

    known = get_command(app).commands
    for line in [one for block in blocks("bash") for one in block.splitlines() if one.startswith("corelib ")]:
        words = line.split("#")[0].split()
        if words[1].startswith("-"):
            continue
        assert words[1] in known, line
        options = {name for option in known[words[1]].params for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
