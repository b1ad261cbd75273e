"""Name the public repository everywhere: `make slug SLUG=owner/name`.

pyproject.toml's `[tool.corelib] slug` says what the repository is called now. Every mention of it in a file that git
would commit is rewritten: links, Colab badges, install lines in notebooks, and the address of the published book.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIP = {".git", "_build", "dist", "build", "runs", "__pycache__", "mathjax"}
TEXT = {".md", ".toml", ".yml", ".yaml", ".cff", ".ipynb", ".py", ".txt", ".cfg", ".json", ".html", ".svg", ".bib"}
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")


def current(root: Path = ROOT) -> str:
    """The slug that pyproject.toml names."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["corelib"]["slug"]


def pages(slug: str) -> str:
    """Where GitHub Pages publishes the book of a repository, without the scheme.

    >>> pages("Some-Lab/heads")
    'some-lab.github.io/heads'
    """
    owner, name = slug.split("/")
    return f"{owner.lower()}.github.io/{name}"


def files(root: Path = ROOT) -> list[Path]:
    """The text files in which the slug may stand."""
    found = []
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if any(part in SKIP or part.startswith(".venv") or part.endswith("_cache") for part in parts):
            continue
        if path.is_file() and path.suffix in TEXT:
            found.append(path)
    return found


def rewrite(new: str, root: Path = ROOT) -> list[Path]:
    """Replace the current slug by `new`; return the files that changed."""
    if not SLUG.fullmatch(new):
        raise SystemExit(f"slug: {new!r} is not of the form owner/name")
    old = current(root)
    changed = []
    for path in files(root):
        before = path.read_text(encoding="utf-8")
        after = before.replace(old, new).replace(pages(old), pages(new))
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: slug.py owner/name")
    for path in rewrite(sys.argv[1]):
        print(f"  {path.relative_to(ROOT)}")
    print(f"The repository is now {current()}; the book is at https://{pages(current())}/")
