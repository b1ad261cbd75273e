"""`corelib train`: follow a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.console import bar, err
from corelib.cli.figures import save_figure


def train(
    recipe: Annotated[str, typer.Argument(help="A bundled model (mini-s, bridge), or a recipe file (TOML).")],
    folder: Annotated[Path, typer.Option("--out", help="The folder of the run: state, log, snapshots, weights.")],
    until: Annotated[int | None, typer.Option(help="Stop at this step; a later call goes on from there.")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one.")] = "cpu",
) -> None:
    """Train a bundled model by its recipe, or go on with a run that was stopped: the result is the same."""
    from corelib.plots import draw_training
    from corelib.training.recipe import Recipe
    from corelib.training.run import train as start
    from corelib.training.state import read_log

    plan = Recipe.load(recipe)
    with bar(f"training {plan.size}") as progress:
        start(plan, folder, until=until, device=device, progress=progress)
    save_figure(draw_training(read_log(folder)), folder / "loss.png")
    err.print(f"weights, log and loss curve: {folder}", highlight=False)
