"""`corelib atlas`: the head atlas, listed and built."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from corelib.cli.console import bar, err, out
from corelib.cli.options import DOMAIN, Loading, known_domains, known_models, loads_checkpoints
from corelib.core.errors import BadInput, check_known
from corelib.core.progress import Progress

if TYPE_CHECKING:
    from corelib.atlas.plan import Job

app = typer.Typer(help="The head atlas: scores of all heads of every bundled model in every domain.")


@app.command(name="list")
def list_() -> None:
    """What the atlas holds, with the best head of each cell."""
    from corelib import atlas

    table = Table("model", "domain", "samples", "accuracy", "best head", "RAM")
    for model in atlas.models():
        for domain in atlas.domains(model):
            scores = atlas.cell(model, domain).scores()
            best = scores.order()[0]
            facts = scores.task
            table.add_row(model, domain, str(facts.samples), f"{facts.accuracy:.3f}", str(best), f"{scores[best]:.3f}")
    out.print(table)


@app.command()
@loads_checkpoints
def build(
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model, by name or folder. Give it again for more; left out: all.", callback=known_models),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="cells: all scores of all heads; samples: of those, RAM and output norm of every sample; "
            "ablations, effects, knockouts: what is lost without them; "
            "redirections: where answers go if their gaze is moved; transfers: what heads ranked in one task do in "
            "another; reductions: which way to read RAM moves most; hybrids: what is kept if few heads see everything; "
            "tradeoffs: and how much faster that is; inheritance: which heads learn to look if others may not; "
            "stories: what one head does; relays: who reads what was fetched at another row; "
            "curves: what few samples find; gaze: which score predicts whose gaze matters; decoys: heads that look and "
            "say nothing; variations: other words, fonts, backgrounds; rankings: heads ranked on long prompts; trials: "
            "what few dense heads keep; rests: what the others see; choices: which heads to keep dense; adaptations: a "
            "little training under windows; written: heads ranked at what the model writes. "
            "Give it again for more; left out: cells."
        ),
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Of the cells. Left out: scenes, documents, video and needle. {DOMAIN}", callback=known_domains
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Of all kinds but cells: scenes, scenes-on-needle, … Give it again; left out: all."),
    ] = None,
    samples: Annotated[int, typer.Option(help="How many pictures a cell.")] = 256,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the samples. Left out: 0 for cells, of other kinds that of their round.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure anew what is there already; cells always are.")
    ] = False,
    folder: Annotated[Path | None, typer.Option("--out", help="Where to write it. Left out: into the package.")] = None,
    *,
    how: Loading,
) -> None:
    """Measure what the book shows of its models, or of others, and write it; a stopped run goes on where it was.

    Cells take minutes; the other kinds together take an hour for a mini model, more for the bridge.
    """
    from corelib import atlas
    from corelib.atlas.build import build_cell, build_results
    from corelib.atlas.by_sample import build_samples
    from corelib.core import model_folder
    from corelib.core.results import check_folder
    from corelib.models.load import load
    from corelib.tasks import RETRIEVING, task

    kinds = [check_known("kind of result", one, ("cells", "samples", *atlas.KINDS)) for one in kind or ("cells",)]
    domains = domain or list(RETRIEVING)
    for one in domains:
        task(one)  # named wrongly, it is refused before anything is measured
    if folder is not None:
        check_folder(folder)
    vlms = [load(one, **how) for one in model or model_folder.bundled_names()]
    others = [one for one in kinds if one in atlas.KINDS]
    if name and not others:
        raise BadInput("--name chooses among other kinds than cells and samples: say which by --kind")
    runs = [  # names are checked here, before anything is measured
        build_results(
            vlm, kinds=others, names=name, seed=seed, again=again, folder=folder or atlas.HOME,
            running=partial(_job_bar, vlm.name),
        )
        for vlm in vlms
    ]  # fmt: skip
    for vlm, run in zip(vlms, runs, strict=True):
        for one in domains if "cells" in kinds else ():
            with bar(f"{vlm.name} · {one}") as progress:
                path = build_cell(
                    vlm,
                    one,
                    folder=(folder or atlas.HOME) / "cells",
                    samples=samples,
                    seed=seed or 0,
                    progress=progress,
                )
            err.print(f"{path}", highlight=False)
        for one in domains if "samples" in kinds and "cells" not in kinds else ():
            with bar(f"{vlm.name} · {one}") as progress:
                path = build_samples(
                    vlm, one, folder=(folder or atlas.HOME) / "cells", count=samples, seed=seed or 0, progress=progress
                )
            err.print(f"{path}", highlight=False)
        for path in run:
            err.print(f"{path}", highlight=False)


def _job_bar(model: str, job: Job) -> AbstractContextManager[Progress]:
    return bar(f"{model} · {job.kind} · {job.name}")
