"""`corelib score`: score the heads of a model on a task."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.console import bar, out
from corelib.cli.memory import say_memory
from corelib.cli.options import DOMAIN, MODEL, Loading, known_domains, known_models, loads_checkpoints
from corelib.cli.tables import show_scores
from corelib.core.errors import BadInput, check_known

AGAIN = "Give it again for more"


@loads_checkpoints
def score(
    out_: Annotated[
        Path,
        typer.Option("--out", help="The head-scores file to write (JSON); with several models or domains, a folder."),
    ],
    model: Annotated[list[str], typer.Option(help=f"{MODEL} {AGAIN}.", callback=known_models)] = ["mini-s"],  # noqa: B006
    domain: Annotated[
        list[str],
        typer.Option(help=f"{DOMAIN} {AGAIN}; all: the first three, and needle.", callback=known_domains),
    ] = ["scenes"],  # noqa: B006
    samples: Annotated[
        int,
        typer.Option(help="How many pictures, one question each. 128 find nine tenths of the top 5 % (chapter 3)."),
    ] = 128,
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
    max_pixels: Annotated[
        int | None, typer.Option(help="Show pictures of a folder: with at most so many pixels, such as 1000000.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples in one forward pass. Left out: 32, of a published checkpoint 2.")
    ] = None,
    *,
    how: Loading,
) -> None:
    """Score every head of a model, by default by Retrieval Attention Mass (RAM).

    RAM is the attention that a head, at the rows that predict the answer, puts on the visual tokens that hold it.
    Rank heads on the split `select`, and test them on `test`. A run that was stopped goes on where it was.

    Several processes share the samples: `accelerate launch -m corelib score …` writes the file that one would.
    """
    from corelib.core import distributed
    from corelib.core.claim import claimed
    from corelib.core.results import as_file_name, check_folder, check_writable
    from corelib.experiments.reading import check_quantities
    from corelib.experiments.score_heads import measure_heads, summarise_heads
    from corelib.metrics.catalogue import metric as by_name
    from corelib.models.load import load
    from corelib.models.memory_estimate import estimate_reading
    from corelib.tasks import RETRIEVING, SPLITS, Setting, task

    check_known("split", split, SPLITS)
    if "all" in domain and len(domain) > 1:
        raise BadInput("--domain all stands alone: leave the other domains away")
    smaller: dict[str, Setting] = {} if max_pixels is None else {"max_pixels": max_pixels}
    works = {one: task(one, **smaller) for one in (RETRIEVING if domain == ["all"] else dict.fromkeys(domain))}
    wanted = by_name(metric, rows, reduce)
    drawn = {name: work.draw(split, samples=samples, seed=seed) for name, work in works.items()}
    for draw in drawn.values():
        check_quantities(draw[0], [wanted.quantity])
    vlms = [load(one, **how) for one in dict.fromkeys(model)]
    pairs = list(itertools.product(vlms, works))
    targets = [out_ / f"{vlm.file_name}-{as_file_name(one)}.json" for vlm, one in pairs] if len(pairs) > 1 else [out_]
    if len(pairs) > 1:
        check_folder(out_).mkdir(exist_ok=True)
    for target in targets:
        check_writable(target)
    for vlm, name in pairs:
        first = drawn[name].batches(vlm.batch_size if batch_size is None else batch_size)[0]
        room = estimate_reading(vlm, vlm.encode(drawn[name].take(first)))
        say_memory(vlm, room, "give a smaller --batch-size or --max-pixels")
    mine = distributed.rank_and_world_size()
    for (vlm, name), target in zip(pairs, targets, strict=True):
        draw, partial = drawn[name], target.with_name(f".{target.name}.partial")
        with claimed(partial):
            with bar(f"{vlm.name} · {name}") as progress:
                found = measure_heads(
                    vlm, draw, batch_size=batch_size, quantities=[wanted.quantity], keys=[wanted.key],
                    store=partial, progress=progress, process=mine,
                )  # fmt: skip
            if found is None:
                continue  # the first process puts all of them together
            scores = summarise_heads(vlm, draw, found, metric=wanted)
            scores.save(target)
            shutil.rmtree(partial)
        if out.is_terminal:
            show_scores(scores)
