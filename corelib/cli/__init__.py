"""The command line. No logic lives here: every command reads its options, calls the library and shows the result.

A mistake in the input ends with one line on stderr and exit code 2; nothing is written.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from corelib.cli import (
    ablate,
    ask,
    atlas,
    bench,
    compare,
    convert,
    explore,
    export,
    locate,
    redirect,
    score,
    show,
    train,
)
from corelib.cli.console import err
from corelib.core.errors import BadInput, CorelibError

RESUMED = ("score", "ablate", "redirect", "train", "atlas")  # keep what is done
MOST_THREADS = 1024


class Commands(TyperGroup):
    """All commands. One that is stopped (Ctrl-C) says whether it goes on."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            more = "; the same command goes on from here" if ctx.invoked_subcommand in RESUMED else ""
            err.print(f"\ncorelib: stopped{more}", highlight=False)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="corelib",
    cls=Commands,
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
    explore.explore, train.train, convert.convert, export.export,
):  # fmt: skip
    app.command()(command)
app.add_typer(atlas.app, name="atlas")


@app.callback()
def _begin(threads: Annotated[int, typer.Option(help="Processor threads; 0 leaves the choice to torch.")] = 0) -> None:
    if not 0 <= threads <= MOST_THREADS:
        raise BadInput(f"threads must be 0 to {MOST_THREADS}, got {threads}")
    if threads:
        import torch

        torch.set_num_threads(threads)


def main() -> None:
    """The console script: typed errors, and what the system refuses, become one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a screen that lacks a sign shows the others
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except CorelibError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'stdout'}: {error.strerror or error}")


def _fail(told: str) -> None:
    err.print(f"corelib: {told}", style="red", highlight=False, soft_wrap=True)
    try:
        sys.stdout.flush()
    except OSError:  # what cannot be shown is not tried once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(2)
