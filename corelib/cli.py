"""The command line. No logic lives here: every command reads its options, calls the library and shows the result.

A mistake in the input ends with one line on stderr and exit code 2; nothing is written.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from corelib.errors import BadInput, CorelibError, check_known

app = typer.Typer(
    name="corelib",
    help="Find, test and use **CoRe heads**: the attention heads that fetch the part of an image "
    "a question asks about.",
    epilog="Start with: corelib profile --model mini-s --domain scenes --samples 64 --out scores.json",
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out, err = Console(), Console(stderr=True)

Model = Annotated[str, typer.Option(help="An embedded model (mini-s), or a folder that `corelib train` wrote.")]
Domain = Annotated[str, typer.Option(help="scenes, documents, video; or text alone: needle, recital.")]
Seed = Annotated[int, typer.Option(help="Seed of the samples; the same seed gives the same pictures everywhere.")]


@app.callback()
def _begin(threads: Annotated[int, typer.Option(help="Processor threads; 0 leaves the choice to torch.")] = 0) -> None:
    if threads < 0:
        raise BadInput(f"threads must be 0 or more, got {threads}")
    if threads:
        import torch

        torch.set_num_threads(threads)


@app.command()
def ask(
    image: Annotated[list[Path], typer.Option(help="A picture. Several are the pages, or with --video the frames.")],
    question: Annotated[str, typer.Option(help="Such as 'digit on red square ?'")],
    model: Model = "mini-s",
    video: Annotated[bool, typer.Option("--video", help="The pictures are the frames of one clip.")] = False,
    save: Annotated[Path | None, typer.Option(help="Save a picture of where the model looked.")] = None,
) -> None:
    """Ask a model about a picture, and see where it looked.

    The embedded models know a small language: `digit on red square ?`, `digit left of blue star ?`,
    `room on page 2 ?`, `digit on red square in frame 3 ?`, `frame of blue star ?`.
    """
    from PIL import Image, UnidentifiedImageError

    from corelib.results import check_writable
    from corelib.vlm import load

    if save:
        check_writable(save)
    pictures = []
    for path in image:
        try:
            pictures.append(Image.open(path).convert("RGB"))
        except (OSError, UnidentifiedImageError):
            raise BadInput(f"cannot read the picture {path}: give a PNG or JPEG file") from None
    vlm = load(model)
    answer = vlm.ask(pictures, question, video=video)
    out.print(answer, highlight=False)
    if save:
        from corelib.experiments.looking import look
        from corelib.plots import draw_look

        draw_look(look(vlm, pictures, question, video=video), answer).savefig(save, dpi=160)


@app.command()
def profile(
    out_: Annotated[Path, typer.Option("--out", help="The head-scores file to write (JSON).")],
    model: Model = "mini-s",
    domain: Domain = "scenes",
    samples: Annotated[int, typer.Option(help="How many pictures, one question each.")] = 256,
    seed: Seed = 0,
    split: Annotated[str, typer.Option(help="train, select (rank here), validate or test.")] = "select",
    variant: Annotated[str, typer.Option(help="raw, visual_share, lift or contrast.")] = "raw",
    rows: Annotated[str, typer.Option(help="Query rows: answer, last or question.")] = "answer",
    reduce: Annotated[str, typer.Option(help="Over the rows: mean or max.")] = "mean",
    batch: Annotated[int, typer.Option(help="Samples in one forward pass.")] = 32,
) -> None:
    """Score every head of a model by Retrieval Attention Mass (RAM).

    RAM is the attention that a head, at the rows that predict the answer, puts on the visual tokens that hold it.
    Rank heads on the split `select`, and test them on `test`.
    """
    from corelib.experiments.profiling import check_metric, measure, summarise
    from corelib.results import check_writable
    from corelib.tasks import RETRIEVING, SPLITS, UNTAUGHT, task
    from corelib.vlm import load

    check_known("domain", domain, (*RETRIEVING, *UNTAUGHT))
    check_known("split", split, SPLITS)
    check_metric(variant, rows, reduce)
    check_writable(out_)
    vlm, work = load(model), task(domain)
    partial = out_.with_name(f".{out_.name}.partial")
    with _bar(f"{vlm.name} · {domain}") as progress:
        found = measure(
            vlm, work, split=split, samples=samples, seed=seed, batch=batch, store=partial, progress=progress
        )
    options = {"split": split, "seed": seed, "variant": variant, "rows": rows, "reduce": reduce}
    scores = summarise(vlm, work, found, **options)
    scores.save(out_)
    shutil.rmtree(partial)
    if out.is_terminal:
        _show(scores)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="An embedded model (mini-s, bridge), or a recipe file (TOML).")],
    folder: Annotated[Path, typer.Option("--out", help="The folder of the run: state, log, snapshots, weights.")],
    until: Annotated[int | None, typer.Option(help="Stop at this step; a later call goes on from there.")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one.")] = "cpu",
) -> None:
    """Train an embedded model by its recipe, or go on with a run that was stopped: the result is the same."""
    from corelib.plots import draw_training
    from corelib.training.recipe import Recipe
    from corelib.training.run import read_log
    from corelib.training.run import train as start

    plan = Recipe.load(recipe)
    with _bar(f"training {plan.size}") as progress:
        start(plan, folder, until=until, device=device, progress=progress)
    draw_training(read_log(folder)).savefig(folder / "loss.png", dpi=160)
    err.print(f"weights, log and loss curve: {folder}", highlight=False)


def _show(scores) -> None:
    """The best heads, as a table."""
    facts, task, metric = scores.model, scores.task, scores.metric
    title = f"{facts['name']} on {task['domain']}/{task['split']}: RAM ({metric['variant']}), {task['samples']} samples"
    table = Table("head", "RAM", "95 % interval", title=title)
    for head in scores.order()[:8]:
        low, high = (scores.interval[end][head.layer][head.index] for end in ("low", "high"))
        table.add_row(str(head), f"{scores.scores[head.layer][head.index]:.3f}", f"{low:.3f} – {high:.3f}")
    out.print(table)
    by_chance = "" if scores.chance is None else f"; chance RAM {scores.chance:.3f}"
    out.print(f"accuracy {task['accuracy']:.3f}{by_chance}", highlight=False)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; silence in a pipe."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


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


if __name__ == "__main__":
    main()
