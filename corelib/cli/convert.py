"""`corelib convert`: the lines of a folder from the file of a public set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.console import bar, out


def convert(
    form: Annotated[
        str, typer.Argument(metavar="FORMAT", help="coco, refcoco, docvqa (MP-DocVQA, with pages) or mmdocir.")
    ],
    file: Annotated[Path, typer.Argument(help="The set's file: JSON, or a line of JSON each.")],
    images: Annotated[Path, typer.Option(help="The folder with its pictures, pages or PDFs.")],
    out_: Annotated[Path, typer.Option("--out", help="The folder to write questions.jsonl into.")],
    pages: Annotated[int, typer.Option(help="Of a document, so many pages are shown with a question, at most.")] = 8,
    first_page: Annotated[
        int, typer.Option(help="mmdocir: the number that the file gives to a document's first page, 0 or 1.")
    ] = 0,
    limit: Annotated[int, typer.Option(help="Stop after so many questions; 0: write all.")] = 0,
) -> None:
    """Write questions about your own copy of a public set, ready for `--domain folder:…`.

    coco asks for each kind of thing in a picture whether there is one, and its outlines are the evidence; refcoco the
    same of phrases; docvqa and mmdocir ask the sets' own questions. No picture is copied, and nothing is downloaded.
    """
    from corelib.tasks.convert import convert as write

    with bar(f"{form} · {file.name}") as progress:
        found = write(form, file, images, out_, pages=pages, first_page=first_page, limit=limit, progress=progress)
    out.print(f"{found.file}: {found.lines} questions", highlight=False, soft_wrap=True)
    for reason, count in found.skipped.items():
        out.print(f"left out: {count}, {reason}", highlight=False, soft_wrap=True)
