"""The library is a house: imports run downward or along a floor, never upward."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "corelib"

# Every room of corelib has its floor here; a package's modules live on the floor of the package.
FLOORS = {
    "__init__": 5,  # the front door may open every room
    "__main__": 5,
    "cli": 4,
    "plots": 4,
    "experiments": 3,
    "training": 3,
    "checks": 3,
    "record": 2,
    "intervene": 2,
    "outputs": 2,
    "trace": 2,
    "resume": 2,
    "prefix": 2,
    "reread": 2,
    "together": 2,
    "sparse": 2,
    "kv": 2,
    "attention": 2,
    "vlm": 2,
    "encoded": 2,
    "families": 2,
    "checkpoints": 2,
    "hub": 2,
    "memory": 2,
    "regions": 1,
    "metrics": 1,
    "ranking": 1,
    "sparsity": 1,
    "atlas": 1,
    "controls": 1,
    "stats": 1,
    "dose": 1,
    "heads": 0,
    "tasks": 0,
    "results": 0,
    "store": 0,
    "processes": 0,
    "errors": 0,
    "embedded": 0,
    "mini": 0,
    "bridge": 0,
}
# What a room must never import, whatever the floors say.
NEVER = {
    "metrics": {"transformers", "corelib.mini", "corelib.bridge"},  # pure maths never sees a model
    "regions": {"transformers", "corelib.mini", "corelib.bridge"},
    "ranking": {"transformers", "corelib.mini", "corelib.bridge"},
    "sparsity": {"transformers", "corelib.mini", "corelib.bridge"},
    "atlas": {"transformers", "corelib.mini", "corelib.bridge"},
    "controls": {"transformers", "corelib.mini", "corelib.bridge"},
    "stats": {"transformers", "torchvision", "corelib.mini", "corelib.bridge"},
    "dose": {"transformers", "torchvision", "corelib.mini", "corelib.bridge"},
    "heads": {"transformers"},
    "results": {"matplotlib"},
    "families": {"corelib.metrics", "corelib.analysis.agreement"},  # adapters compute no score
    "plots": {
        "corelib.models.vlm",
        "corelib.families",
        "corelib.mini",
        "corelib.bridge",
        "transformers",
    },  # nor do plots
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """`corelib/metrics/ram.py` is `corelib.metrics.ram`; a package's `__init__.py` is the package."""
    parts = ("corelib", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    """The room in which a module lives: the part after `corelib.`"""
    return name.split(".")[1] if "." in name else "__init__"


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it; `from corelib import x` is `corelib.x` where that exists."""
    here = dotted(path)
    package = here if path.name == "__init__.py" else here.rpartition(".")[0]
    known = {dotted(one) for one in modules()}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            deeper = {f"{base}.{alias.name}" for alias in node.names} & known
            named = {alias.name for alias in node.names}
            if named - {one.rpartition(".")[2] for one in deeper} or not deeper:
                found.add(base)
            found |= deeper
    return found


def test_there_is_something_to_look_at():
    names = {dotted(path) for path in modules()}
    assert {"corelib", "corelib.attention.interface", "corelib.core.errors"} <= names
    assert "corelib.attention.interface" in imports(PACKAGE / "record.py")  # the reader of imports reads them


@pytest.mark.parametrize("path", modules(), ids=lambda path: dotted(path))
def test_no_import_runs_upward(path):
    here = dotted(path)
    assert room(here) in FLOORS, f"{here} has no floor: give it one in tests/test_floors.py"
    for target in imports(path):
        if target == "corelib" or target.startswith("corelib."):
            assert room(target) in FLOORS, f"{target} has no floor: give it one in tests/test_floors.py"
            above = FLOORS[room(target)] > FLOORS[room(here)]
            assert not above, f"{here} (floor {FLOORS[room(here)]}) imports {target} (floor {FLOORS[room(target)]})"


@pytest.mark.parametrize("path", modules(), ids=lambda path: dotted(path))
def test_a_room_keeps_out_what_it_must_never_import(path):
    banned = NEVER.get(room(dotted(path)), set())
    for target in imports(path):
        for name in banned:
            assert target != name and not target.startswith(name + "."), f"{dotted(path)} must not import {name}"


def test_an_upward_import_is_caught(tmp_path):
    """The test can fail: relative, absolute and hidden imports are all seen."""
    file = PACKAGE / "metrics" / "example.py"
    source = "from .. import vlm\nfrom corelib.experiments import x\ndef f():\n    import corelib.cli\n"
    seen = set()
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            copy = tmp_path / "example.py"
            copy.write_text(ast.unparse(statement), encoding="utf-8")
            seen |= _imports_as_if(copy, file)
    assert {"corelib.experiments", "corelib.cli"} <= seen
    assert {"corelib", "corelib.models.vlm"} & seen


def _imports_as_if(copy: Path, place: Path) -> set[str]:
    """The imports of `copy`, read as if the file lay at `place`."""

    class There(type(place)):
        def read_text(self, *args, **kwargs):
            return copy.read_text(encoding="utf-8")

    return imports(There(place))
