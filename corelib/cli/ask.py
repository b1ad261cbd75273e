"""`corelib ask`: put a question to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.console import out
from corelib.cli.options import MODEL, Loading, known_models, loads_checkpoints


@loads_checkpoints
def ask(
    image: Annotated[list[Path], typer.Option(help="A picture. Several are the pages, or with --video the frames.")],
    question: Annotated[str, typer.Option(help="Such as 'digit on red square ?'")],
    model: Annotated[str, typer.Option(help=MODEL, callback=known_models)] = "mini-s",
    video: Annotated[bool, typer.Option("--video", help="The pictures are the frames of one clip.")] = False,
    save: Annotated[Path | None, typer.Option(help="Save a picture of where the model looked.")] = None,
    tokens: Annotated[int, typer.Option(help="The length of an answer, at most.")] = 8,
    *,
    how: Loading,
) -> None:
    """Ask a model about a picture, and see where it looked.

    The bundled models know a small language: `digit on red square ?`, `digit left of blue star ?`,
    `room on page 2 ?`, `digit on red square in frame 3 ?`, `frame of blue star ?`.
    """
    from corelib.core.pictures import open_picture
    from corelib.core.results import check_writable
    from corelib.models.load import load

    if save:
        check_writable(save)
    pictures = [open_picture(path) for path in image]
    vlm = load(model, **how)
    answer = vlm.ask(pictures, question, video=video, tokens=tokens)
    out.print(answer, highlight=False)
    if save:
        from corelib.models.attention_map import map_attention
        from corelib.plots import draw_attention_map

        draw_attention_map(map_attention(vlm, pictures, question, video=video), answer).savefig(save, dpi=160)
