"""What a type checker and an editor see of corelib."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import corelib

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import corelib
from corelib import load, score_heads, task
from corelib.experiments.ablation import ablate_top

vlm = load("mini-s", device="cpu")
draw = task("scenes").draw("select", samples=64)
scores = score_heads(vlm, draw)
found = ablate_top(vlm, task("scenes").draw("test", samples=64), scores)
reveal_type((vlm, draw, scores))
reveal_type((scores.top(), scores["L4H0"], vlm.ask([], "digit on red square ?")))
reveal_type((found, found.conditions.core.loss.accuracy))
corelib.lode("mini-s")
load("mini-s", dtyp="float16")
"""
SEEN = [("VLM", "Draw", "HeadScores"), ("HeadSet", "float", "str"), ("Ablation", "Estimate")]


@pytest.mark.slow
def test_the_types_of_a_first_program(tmp_path, monkeypatch):
    """Every step of it has a type of its own, and a name or an option that does not exist is an error."""
    api = pytest.importorskip("mypy.api", reason="mypy comes with the extra test")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    monkeypatch.chdir(ROOT)  # its settings, and what `make lint` has cached
    told, failed, _ = api.run([str(program)])
    assert not failed, failed
    mine = [line for line in told.splitlines() if "program.py:" in line]  # the cache may remember another folder
    revealed = [one[1] for line in mine if (one := re.search(r'Revealed type is "tuple\[(.*)\]"', line))]
    assert [tuple(name.rsplit(".", 1)[-1] for name in one.split(", ")) for one in revealed] == SEEN
    wrong = [line for line in mine if " error: " in line]
    assert len(wrong) == 2, wrong
    assert "lode" in wrong[0] and "dtyp" in wrong[1]


def test_checkers_see_the_names_that_are_imported_late():
    tree = ast.parse(Path(corelib.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    seen = {name.asname: node.module for node in imports for name in node.names if name.asname == name.name}
    assert seen == corelib._HOMES


def test_the_package_says_that_it_has_types():
    assert (Path(corelib.__file__).parent / "py.typed").is_file()
