"""`corelib ask`: put a question to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.show import out
from corelib.errors import BadInput


def ask(
    image: Annotated[list[Path], typer.Option(help="A picture. Several are the pages, or with --video the frames.")],
    question: Annotated[str, typer.Option(help="Such as 'digit on red square ?'")],
    model: Annotated[
        str, typer.Option(help="An embedded model (mini-s), or a folder that `corelib train` wrote.")
    ] = "mini-s",
    video: Annotated[bool, typer.Option("--video", help="The pictures are the frames of one clip.")] = False,
    save: Annotated[Path | None, typer.Option(help="Save a picture of where the model looked.")] = None,
) -> None:
    """Ask a model about a picture, and see where it looked.

    The embedded models know a small language: `digit on red square ?`, `digit left of blue star ?`,
    `room on page 2 ?`, `digit on red square in frame 3 ?`, `frame of blue star ?`.
    """
    from PIL import Image, UnidentifiedImageError

    from corelib.results import check_writable
    from corelib.vlm import load

    if save:
        check_writable(save)
    pictures = []
    for path in image:
        try:
            pictures.append(Image.open(path).convert("RGB"))
        except (OSError, UnidentifiedImageError):
            raise BadInput(f"cannot read the picture {path}: give a PNG or JPEG file") from None
    vlm = load(model)
    answer = vlm.ask(pictures, question, video=video)
    out.print(answer, highlight=False)
    if save:
        from corelib.experiments.looking import look
        from corelib.plots import draw_look

        draw_look(look(vlm, pictures, question, video=video), answer).savefig(save, dpi=160)
