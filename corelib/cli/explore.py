"""`corelib explore`: look at every head of a model, on a page of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.console import out
from corelib.cli.options import Loading, known_models, loads_checkpoints
from corelib.core.errors import BadInput

MOST = 8  # pictures of a task: a page of a large model holds about a megabyte for each


@loads_checkpoints
def explore(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Head-scores files of one model: of `corelib score`, or of the atlas (cells/MODEL/TASK.json)."
        ),
    ],
    out_: Annotated[Path, typer.Option("--out", help="The page to write (.html).")],
    pictures: Annotated[
        int,
        typer.Option(
            help=f"Also read so many samples of each task's test split, at most {MOST}, and show what every head looks "
            "at in them. This loads the model."
        ),
    ] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --pictures: where the model is, if not under the name in the files.", callback=known_models
        ),
    ] = None,
    *,
    how: Loading,
) -> None:
    """Write a page of HTML on which you can look at every head: a map of all layers and heads, and the numbers of each.

    Click a head, or walk with the arrow keys. Each head shows its score with the interval, its rank, what chance would
    give, and how its scores differ between samples, where a file of samples lies beside the scores. Several files are
    several tasks or measures of one model, to switch between.

    The page is one file. It needs no network, and sends nothing: open it in a browser, or mail it.
    """
    from corelib.atlas.explorer import domains_of_files, read_examples, scores_by_task
    from corelib.core.results import check_writable, write_whole
    from corelib.plots.explorer import explorer_page

    if out_.suffix.lower() != ".html":
        raise BadInput(f"--out {out_}: give a name that ends in .html")
    if not 0 <= pictures <= MOST:
        raise BadInput(f"--pictures {pictures}: give a number from 0 to {MOST}")
    if not pictures and (model or how):
        raise BadInput("the model is read for pictures alone: give --pictures 3, or leave its options away")
    check_writable(out_, *files)
    found = scores_by_task(files)
    tasks = {name: mine[0][1] for name, mine in found.items()}
    first = next(iter(tasks.values()))
    examples = {}
    if pictures:
        from corelib.experiments.answer_sweep import check_model
        from corelib.models.load import load
        from corelib.tasks import task

        vlm = load(model or first.model.name, **how)
        check_model(vlm, first)
        works = {name: task(one.task.domain, **(one.task.difficulty or {})) for name, one in tasks.items()}
        examples = {name: read_examples(vlm, work, pictures) for name, work in works.items()}
    page = explorer_page(first.model, domains_of_files(found, examples))
    write_whole(out_, lambda beside: beside.write_text(page, encoding="utf-8"))
    out.print(f"{out_}: {len(page.encode()) / 1000:.0f} kB", highlight=False, soft_wrap=True)
