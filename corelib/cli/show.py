"""`corelib show`: look at a results file, as a table or as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from corelib.cli.console import out
from corelib.cli.figures import check_figure, save_figure
from corelib.cli.tables import show_ablation, show_redirection, show_scores, show_speed
from corelib.core.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from corelib.benchmarks.speed import Speed
    from corelib.core.head_scores import HeadScores
    from corelib.experiments.ablation_result import Ablation
    from corelib.experiments.redirection_result import Redirection

R = TypeVar("R")


def show(
    file: Annotated[Path, typer.Argument(help="A file that `corelib score`, `ablate`, `redirect` or `bench` wrote.")],
    save: Annotated[Path | None, typer.Option(help="Draw it into this picture (.png, .svg, .pdf) instead.")] = None,
) -> None:
    """Show a results file: head scores, an ablation, a redirection, or a bench, told apart by its schema.

    Without `--save` a table is printed; with it, the figure that the book would show is drawn.
    """
    from corelib.benchmarks.speed import Speed
    from corelib.core.errors import check_known
    from corelib.core.head_scores import HeadScores
    from corelib.core.results import Result, read_json
    from corelib.experiments.ablation_result import Ablation
    from corelib.experiments.redirection_result import Redirection

    kinds: tuple[type[Result], ...] = (HeadScores, Ablation, Redirection, Speed)
    known = {kind.schema: kind for kind in kinds}
    schema = read_json(file).get("schema")
    if not isinstance(schema, str):
        raise BadInput(f"{file} has no schema: give a results file")
    kind = known[check_known("schema of a results file", schema, known)]
    check_figure(save, file)
    found = kind.load(file)
    if isinstance(found, HeadScores):
        _put(found, save, show_scores, _map)
    elif isinstance(found, Ablation):
        _put(found, save, show_ablation, _nulls)
    elif isinstance(found, Redirection):
        _put(found, save, show_redirection, _redirection)
    elif isinstance(found, Speed):
        _put(found, save, show_speed, _speed)


def _put(found: R, save: Path | None, table: Callable[[R], None], draw: Callable[[R], Figure]) -> None:
    """As a table on the screen, or as a picture in a file."""
    if save is None:
        table(found)
        return
    save_figure(draw(found), save)
    out.print(f"{save}", highlight=False)


def _map(scores: HeadScores) -> Figure:
    from corelib.plots import head_map

    heading = f"{scores.model.name} on {scores.task.domain}: {scores.metric.quantity}"
    return head_map(scores, chance=scores.chance, label=scores.metric.quantity, heading=heading)


def _nulls(found: Ablation) -> Figure:
    from corelib.plots import null_chart
    from corelib.plots.causal import NullRow

    if found.control is None:
        raise BadInput("this ablation has no control to draw: print it, without --save")
    null, sets = found.null[found.control], found.conditions
    row: NullRow = {
        "core": sets.core.loss.accuracy,
        "next": sets.next.loss.accuracy,
        "lowest": sets.lowest.loss.accuracy,
        "null": [found.base.accuracy - one for one in null.accuracy],
        "full": found.base.accuracy - found.chance,
    }
    return null_chart({f"{found.model.name} · {found.task.domain}": row}, heading=f"{found.mode} ablation")


def _redirection(found: Redirection) -> Figure:
    from corelib.plots import redirection_chart

    name = f"{found.model.name} · {found.task.domain}"
    return redirection_chart({name: found}, heading="answers that go where the gaze goes")


def _speed(found: Speed) -> Figure:
    from corelib.plots import speed_chart

    return speed_chart({found.model.name: found.lengths}, heading="dense against hybrid attention")
