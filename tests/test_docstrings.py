"""Docstrings say what a reader of the API page needs: what it is, and which errors it raises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import corelib
from corelib.core import errors

PACKAGE = Path(corelib.__file__).parent
ERRORS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
Documented = ast.FunctionDef | ast.ClassDef


def public() -> Iterator[tuple[str, Documented]]:
    """Modules, and the functions, classes and methods in them that are not private, by place. What a command of the
    command line says is its help, which has tests of its own."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name == "cli":
            continue
        place = str(path.relative_to(PACKAGE))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, Documented) and not node.name.startswith("_"):
                yield f"{place}:{node.name}", node
                for inner in node.body if isinstance(node, ast.ClassDef) else ():
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        yield f"{place}:{node.name}.{inner.name}", inner


def raised(node: Documented) -> set[str]:
    """The typed errors that a function itself raises."""
    found = (one.exc for one in ast.walk(node) if isinstance(one, ast.Raise) and one.exc is not None)
    return {name for one in found if (name := ast.unparse(one).split("(")[0]) in ERRORS}


def test_every_public_function_and_class_says_what_it_is():
    silent = [place for place, node in public() if "." not in place.split(":")[1] and not ast.get_docstring(node)]
    assert silent == []


def test_the_errors_that_a_function_raises_are_named():
    """After `Raises`; or `Refuse …` in the first line says that raising is all it does."""
    untold = {}
    for place, node in public():
        told, mine = ast.get_docstring(node) or "", raised(node)
        if isinstance(node, ast.FunctionDef) and mine and told:
            missing = {name for name in mine if not re.search(rf"\b{name}\b", told)}
            if missing:
                untold[place] = missing
    assert untold == {}


def test_the_ten_lines_of_the_first_page_have_an_example_each():
    """What `from corelib import …` gives is shown at work in its docstring."""
    without = [name for name in corelib.__all__ if ">>>" not in (getattr(corelib, name).__doc__ or "")]
    assert without == []
