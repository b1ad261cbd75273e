"""The command line. No logic lives here: every command reads its options, calls the library and shows the result.

A mistake in the input ends with one line on stderr and exit code 2; nothing is written.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from corelib.cli import ablate, ask, atlas, bench, compare, convert, export, locate, redirect, score, show, train
from corelib.cli.console import err
from corelib.core.errors import BadInput, CorelibError

app = typer.Typer(
    name="corelib",
    help="Find, test and use **CoRe heads**: the attention heads that fetch the part of an image "
    "a question asks about.",
    epilog="Start with: corelib score --model mini-s --domain scenes --samples 64 --out scores.json",
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    ask.ask, locate.locate, score.score, compare.compare, ablate.ablate, redirect.redirect, bench.bench, show.show,
    train.train, convert.convert, export.export,
):  # fmt: skip
    app.command()(command)
app.add_typer(atlas.app, name="atlas")


@app.callback()
def _begin(threads: Annotated[int, typer.Option(help="Processor threads; 0 leaves the choice to torch.")] = 0) -> None:
    if threads < 0:
        raise BadInput(f"threads must be 0 or more, got {threads}")
    if threads:
        import torch

        torch.set_num_threads(threads)


def main() -> None:
    """The console script: typed errors become one line and exit code 2."""
    try:
        app()
    except CorelibError as error:
        err.print(f"corelib: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("corelib: stopped; the same command goes on from here", highlight=False)
        sys.exit(130)
