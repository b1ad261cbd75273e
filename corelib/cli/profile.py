"""`corelib profile`: score the heads of a model on a task."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.show import bar, heads_table, out
from corelib.errors import BadInput, check_known


def profile(
    out_: Annotated[
        Path,
        typer.Option("--out", help="The head-scores file to write (JSON); with several models or domains, a folder."),
    ],
    model: Annotated[
        list[str],
        typer.Option(help="An embedded model, or a folder that `corelib train` wrote. Give it again for more."),
    ] = ["mini-s"],  # noqa: B006
    domain: Annotated[
        list[str],
        typer.Option(help="scenes, documents, video; or text: needle, recital; or all but that. Repeat for more."),
    ] = ["scenes"],  # noqa: B006
    samples: Annotated[int, typer.Option(help="How many pictures, one question each.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the samples; the same seed gives the same pictures.")] = 0,
    split: Annotated[str, typer.Option(help="train, select (rank here), validate or test.")] = "select",
    metric: Annotated[
        str,
        typer.Option(help="raw (RAM), visual_share, lift, contrast, …: the names of chapter 3. A wrong one lists all."),
    ] = "raw",
    rows: Annotated[
        str | None, typer.Option(help="Query rows: answer, last or question. Left out, the metric's own.")
    ] = None,
    reduce: Annotated[str | None, typer.Option(help="Over the rows: mean or max. Left out, the metric's own.")] = None,
    batch: Annotated[int, typer.Option(help="Samples in one forward pass.")] = 32,
) -> None:
    """Score every head of a model, by default by Retrieval Attention Mass (RAM).

    RAM is the attention that a head, at the rows that predict the answer, puts on the visual tokens that hold it.
    Rank heads on the split `select`, and test them on `test`. A run that was stopped goes on where it was.
    """
    from corelib.experiments.profiling import measure, summarise
    from corelib.experiments.reading import check_quantities
    from corelib.metrics.catalogue import metric as by_name
    from corelib.results import check_writable
    from corelib.tasks import RETRIEVING, SPLITS, UNTAUGHT, task
    from corelib.vlm import load

    known = (*RETRIEVING, *UNTAUGHT, "all")
    domains = RETRIEVING if domain == ["all"] else [check_known("domain", one, known) for one in domain]
    check_known("split", split, SPLITS)
    if "all" in domains:
        raise BadInput("--domain all stands alone: leave the other domains away")
    chosen = by_name(metric, rows, reduce)
    for one in domains:
        check_quantities(task(one).sample(split, seed, 0), [chosen.quantity])
    vlms = [load(one) for one in dict.fromkeys(model)]
    pairs = list(itertools.product(vlms, dict.fromkeys(domains)))
    targets = [out_] if len(pairs) == 1 else [out_ / f"{vlm.name}-{name}.json" for vlm, name in pairs]
    if len(pairs) > 1:
        if out_.is_file():
            raise BadInput(f"{out_} is a file: {len(pairs)} results need a folder")
        if not out_.exists():
            check_writable(out_)
            out_.mkdir()
    check_writable(targets[0])
    for (vlm, name), target in zip(pairs, targets, strict=True):
        work, partial = task(name), target.with_name(f".{target.name}.partial")
        options = {"split": split, "seed": seed}
        with bar(f"{vlm.name} · {name}") as progress:
            found = measure(
                vlm, work, samples=samples, batch=batch, quantities=[chosen.quantity], store=partial,
                progress=progress, **options,
            )  # fmt: skip
        scores = summarise(vlm, work, found, metric=chosen, **options)
        scores.save(target)
        shutil.rmtree(partial)
        if out.is_terminal:
            heads_table(scores)
