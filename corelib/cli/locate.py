"""`corelib locate`: where in the pictures did that answer come from?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from corelib.cli.console import out
from corelib.cli.figures import check_figure, save_figure
from corelib.cli.memory import say_memory
from corelib.cli.options import MODEL, Loading, Pointing, known_models, loads_checkpoints, percent, top_heads

SHOWN = 5  # pictures in the table


@loads_checkpoints
def locate(
    image: Annotated[list[Path], typer.Option(help="A page. Give it again for each page, in their order.")],
    question: Annotated[str, typer.Option(help="Such as 'room on page 2 ?'")],
    model: Annotated[str, typer.Option(help=MODEL, callback=known_models)] = "mini-s",
    scores: Pointing = None,
    top: Annotated[str, typer.Option(help="The share of heads that point.")] = "5%",
    video: Annotated[bool, typer.Option("--video", help="The pictures are the frames of one clip.")] = False,
    save: Annotated[Path | None, typer.Option(help="Save the page with the box drawn on it.")] = None,
    tokens: Annotated[int, typer.Option(help="The length of the answer, at most.")] = 32,
    *,
    how: Loading,
) -> None:
    """Answer a question, and show on which page and where on it the answer was read.

    The top heads of a ranking point: the pages are ordered by what these heads pay to them while the answer is written,
    and the box lies around the place that gets most. How often that is right is measured in chapter 11.
    """
    from corelib.core.pictures import open_picture
    from corelib.models.load import load
    from corelib.models.locate import locate as find
    from corelib.models.memory_estimate import estimate_writing
    from corelib.tasks import Sample

    check_figure(save, *image)
    percent(top)
    pictures = [open_picture(path) for path in image]
    vlm = load(model, **how)
    asked = Sample.of(pictures, question, video=video)
    heads = top_heads(vlm, scores, top, asked.domain)
    room = estimate_writing(vlm, vlm.encode([asked], answers=False), tokens)
    say_memory(vlm, room, "give smaller or fewer pictures")
    found = find(vlm, pictures, question, heads, video=video, tokens=tokens)
    out.print(found.answer, highlight=False)
    if len(image) > 1:
        table = Table("picture", "number, from 0", "of the look")
        for number, share in found.ranked()[:SHOWN]:
            table.add_row(image[number].name, str(number), f"{share:.0%}")
        out.print(table)
    box = found.box
    out.print(
        f"{image[found.page].name}: {box.x0:.0f},{box.y0:.0f},{box.x1:.0f},{box.y1:.0f} gets {found.sure:.0%} of what "
        f"{len(heads)} heads pay to the pictures",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if save:
        from corelib.plots import draw_located

        save_figure(draw_located(found), save)
