"""`corelib show`: look at a results file, as a table or as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corelib.cli.console import out
from corelib.cli.tables import show_ablation, show_scores, show_speed
from corelib.core.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(
    file: Annotated[Path, typer.Argument(help="A file that `corelib score`, `ablate` or `bench` wrote.")],
    save: Annotated[Path | None, typer.Option(help="Draw it into this picture (.png, .svg, .pdf) instead.")] = None,
) -> None:
    """Show a results file: head scores, an ablation, or a bench, told apart by its schema.

    Without `--save` a table is printed; with it, the figure that the book would show is drawn.
    """
    from corelib.benchmarks.speed import Speed
    from corelib.core.errors import check_known
    from corelib.core.head_scores import HeadScores
    from corelib.core.results import check_writable, read_json
    from corelib.experiments.ablation import Ablation

    kinds = {HeadScores: (show_scores, _map), Ablation: (show_ablation, _nulls), Speed: (show_speed, _speed)}
    known = {kind.schema: (kind, *ways) for kind, ways in kinds.items()}
    schema = read_json(file).get("schema")
    if not isinstance(schema, str):
        raise BadInput(f"{file} has no schema: give a results file")
    kind, table, draw = known[check_known("schema of a results file", schema, known)]
    if save is None:
        table(kind.load(file))
        return
    allowed = (".png", ".svg", ".pdf")
    if save.suffix not in allowed:
        raise BadInput(f"--save {save}: give a name that ends in {', '.join(allowed)}")
    check_writable(save)
    draw(kind.load(file)).savefig(save, dpi=160)
    out.print(f"{save}", highlight=False)


def _map(scores: Any) -> Figure:
    from corelib.plots import head_map

    heading = f"{scores.model.name} on {scores.task.domain}: {scores.metric.quantity}"
    return head_map(scores, chance=scores.chance, label=scores.metric.quantity, heading=heading)


def _nulls(found: Any) -> Figure:
    from corelib.plots import null_chart

    losses = {name: part.loss.accuracy for name, part in found.conditions.items()}
    null = next(iter(found.null.values()))
    row = {
        **losses,
        "null": [found.base.accuracy - one for one in null.accuracy],
        "full": found.base.accuracy - found.chance,
    }
    return null_chart({f"{found.model.name} · {found.task.domain}": row}, heading=f"{found.mode} ablation")


def _speed(found: Any) -> Figure:
    from corelib.plots import speed_chart

    return speed_chart({found.model.name: found.lengths}, heading="dense against hybrid attention")
