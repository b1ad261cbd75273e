"""Figures as files: checked before the work, written whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corelib.core.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")


def check_figure(path: Path | None, *inputs: Path) -> None:
    """Refuse now a name that is none of a picture's, or that cannot be written; None: there is nothing to write.

    Raises: BadInput for another ending, CannotWrite as `check_writable`.
    """
    from corelib.core.results import check_writable

    if path is None:
        return
    if path.suffix.lower() not in ENDINGS:
        raise BadInput(f"--save {path}: give a name that ends in {', '.join(ENDINGS)}")
    check_writable(path, *inputs)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all.

    Raises: CannotWrite if the disk refuses it.
    """
    from corelib.core.results import write_whole

    write_whole(path, lambda beside: figure.savefig(beside, dpi=160, format=path.suffix[1:].lower()))
