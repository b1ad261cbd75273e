"""`corelib ask`: put a question to a model, and tell its heads where to look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corelib.cli.console import out
from corelib.cli.figures import check_figure, save_figure
from corelib.cli.memory import say_memory
from corelib.cli.options import MODEL, Loading, Pointing, known_models, loads_checkpoints, percent, top_heads
from corelib.core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from corelib.core.geometry import Box


@loads_checkpoints
def ask(
    image: Annotated[list[Path], typer.Option(help="A picture. Several are the pages, or with --video the frames.")],
    question: Annotated[str, typer.Option(help="Such as 'digit on red square ?'")],
    model: Annotated[str, typer.Option(help=MODEL, callback=known_models)] = "mini-s",
    video: Annotated[bool, typer.Option("--video", help="The pictures are the frames of one clip.")] = False,
    save: Annotated[Path | None, typer.Option(help="Save a picture of where the model looked.")] = None,
    tokens: Annotated[int, typer.Option(help="The length of an answer, at most.")] = 8,
    look: Annotated[
        str | None,
        typer.Option(
            help="A box, x0,y0,x1,y1 in pixels (and with several pictures the number of the picture, from 0): answer "
            "again, with the top heads looking there."
        ),
    ] = None,
    scores: Pointing = None,
    top: Annotated[str, typer.Option(help="With --look: the share of heads whose look is moved.")] = "5%",
    *,
    how: Loading,
) -> None:
    """Ask a model about a picture, see where it looked, or tell it where to look.

    The bundled models know a small language: `digit on red square ?`, `digit left of blue star ?`,
    `room on page 2 ?`, `digit on red square in frame 3 ?`, `frame of blue star ?`.

    With `--look 96,0,128,32` two answers are printed: the model's own, and the one it gives when its CoRe heads look at
    that box.
    """
    from corelib.core.pictures import open_picture
    from corelib.models.load import load
    from corelib.models.memory_estimate import estimate_writing
    from corelib.tasks import Sample

    check_figure(save, *image)
    if look is None and scores is not None:
        raise BadInput("--scores says which heads look at the box of --look: give both")
    percent(top)
    pictures = [open_picture(path) for path in image]
    box = None if look is None else _box(look, pictures)
    vlm = load(model, **how)
    asked = Sample.of(pictures, question, video=video)
    heads = top_heads(vlm, scores, top, asked.domain) if box else None
    room = estimate_writing(vlm, vlm.encode([asked], answers=False), tokens)
    say_memory(vlm, room, "give smaller or fewer pictures")
    if box is None or heads is None:
        answer = vlm.ask(pictures, question, video=video, tokens=tokens)
        out.print(answer, highlight=False)
    else:
        from corelib.models.gaze import answer_looking_at

        answer, moved = answer_looking_at(vlm, pictures, question, heads, box, video=video, tokens=tokens)
        out.print(f"{answer}  by itself", highlight=False)
        out.print(f"{moved}  with {len(heads)} heads looking at {look}", highlight=False)
    if save:
        from corelib.models.attention_map import map_attention
        from corelib.plots import draw_attention_map

        seen = map_attention(vlm, pictures, question, video=video, heads=heads)
        save_figure(draw_attention_map(seen, answer, targets=[box] if box else []), save)


def _box(text: str, pictures: Sequence[Image.Image]) -> Box:
    """`96,0,128,32` → a box on the first picture; `96,0,128,32,1` on the second.

    Raises: BadInput for anything else.
    """
    from corelib.core.geometry import box_from

    parts = text.replace(" ", "").split(",")
    try:
        numbers, place = [float(part) for part in parts[:4]], int(parts[4]) if len(parts) == 5 else 0
    except ValueError:
        numbers, place = [], 0
    if len(parts) not in (4, 5) or len(numbers) != 4:
        raise BadInput(f"--look {text}: give x0,y0,x1,y1 in pixels, such as 96,0,128,32")
    if not 0 <= place < len(pictures):
        raise BadInput(f"--look {text} is on picture {place} of {len(pictures)}; they count from 0")
    return box_from(numbers, pictures[place].size, image=place)
