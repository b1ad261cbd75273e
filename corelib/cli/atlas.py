"""`corelib atlas`: the head atlas, listed and built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from corelib.cli.show import bar, err, out
from corelib.errors import check_known

app = typer.Typer(help="The head atlas: scores of all heads of every embedded model in every domain.")


@app.command(name="list")
def list_() -> None:
    """What the atlas holds, with the best head of each cell."""
    from corelib import atlas

    table = Table("model", "domain", "samples", "accuracy", "best head", "RAM")
    for model in atlas.models():
        for domain in atlas.domains(model):
            scores = atlas.cell(model, domain).scores()
            best = scores.order()[0]
            ram = scores.scores[best.layer][best.index]
            facts = scores.task
            table.add_row(
                model, domain, str(facts["samples"]), f"{facts['accuracy']:.3f}", str(best), f"{ram:.3f}"
            )
    out.print(table)


@app.command()
def build(
    model: Annotated[
        list[str] | None, typer.Option(help="A model, by name or folder. Give it again for more; left out: all.")
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option(help="scenes, documents, video or needle. Left out: all.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many pictures a cell.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write it. Left out: into the package.")
    ] = None,
) -> None:
    """Measure cells of the atlas, and write them; a run that was stopped goes on where it was."""
    from corelib import atlas, embedded
    from corelib.experiments.atlas import build as measure_cell
    from corelib.tasks import RETRIEVING
    from corelib.vlm import load

    domains = [check_known("domain", one, RETRIEVING) for one in domain or RETRIEVING]
    vlms = [load(one) for one in model or embedded.names()]
    for vlm in vlms:
        for one in domains:
            with bar(f"{vlm.name} · {one}") as progress:
                path = measure_cell(
                    vlm, one, folder=folder or atlas.CELLS, samples=samples, seed=seed, progress=progress
                )
            err.print(f"{path}", highlight=False)
