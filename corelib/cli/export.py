"""`corelib export`: head scores in the formats that other projects read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.console import out


def export(
    file: Annotated[Path, typer.Argument(help="A head-scores file (`corelib score`), or one that others published.")],
    form: Annotated[
        str,
        typer.Option(
            "--as",
            help="retrieval-head (JSON by layer and head: Retrieval_Head, HeadKV, SparseMM), mmrethead (JSON, best "
            "first), duoattention (a gate for each key/value head) or table.",
        ),
    ],
    out_: Annotated[Path, typer.Option("--out", help="The file to write.")],
) -> None:
    """Write head scores in a format that other projects read. What their format cannot hold, such as intervals, is left
    out.
    """
    from corelib.analysis.publish import write_scores
    from corelib.analysis.published import read_scores
    from corelib.core.results import check_writable

    check_writable(out_, file)
    write_scores(read_scores(file), out_, form)
    out.print(f"{out_}", highlight=False, soft_wrap=True)
