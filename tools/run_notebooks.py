"""Run the CPU notebooks from top to bottom and store their outputs in place: `make notebooks`.

A notebook that needs more than a CPU says so in its metadata, `"corelib": {"needs": ["gpu", "hub"]}`; it is left alone.
Only what a reader sees is stored: no run times, no machine names, so that a second run changes nothing but results.

    python tools/run_notebooks.py [--list] [notebook ...]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]


def needs(notebook: nbformat.NotebookNode) -> list[str]:
    """What a notebook needs beyond a CPU."""
    return list(notebook.metadata.get("corelib", {}).get("needs", []))


def cpu_notebooks() -> list[Path]:
    """The notebooks that run anywhere, in reading order."""
    return [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if not needs(nbformat.read(path, 4))]


def run(path: Path) -> float:
    """Execute one notebook in place; return the seconds it took."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    start = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": path.parent}},
    ).execute()
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(notebook, path)
    return time.perf_counter() - start


def main() -> None:
    """Run, or only list."""
    parser = argparse.ArgumentParser(description="Run the CPU notebooks and store their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all that need no GPU and no hub")
    parser.add_argument("--list", action="store_true", help="only print which would run")
    options = parser.parse_args()
    chosen = [path.resolve() for path in options.notebooks] or cpu_notebooks()
    if not chosen:
        sys.exit("run_notebooks: there is no notebook in notebooks/ that runs on a CPU")
    for path in chosen:
        if options.list:
            print(path.relative_to(ROOT))
        else:
            print(f"{path.name} ... ", end="", flush=True)
            print(f"{run(path):.0f} s")


if __name__ == "__main__":
    main()
