"""How long work tells how far it is: a function of what is done and of what there is to do."""

from __future__ import annotations

import sys
from collections.abc import Callable

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Tell nobody."""


def on_screen(done: int, total: int) -> None:
    """One line, written over as work goes on: for a notebook."""
    sys.stdout.write(f"\r{done} of {total}" + ("\n" if done >= total else ""))
    sys.stdout.flush()
