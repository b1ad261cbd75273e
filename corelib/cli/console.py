"""What the commands put on the screen: tables, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

out, err = Console(), Console(stderr=True)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; silence in a pipe."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def heads_table(scores, count: int = 8) -> None:
    """The best heads of a ranking, with their intervals, and what the ranking is worth."""
    facts, task, metric = scores.model, scores.task, scores.metric
    name = f"{metric['quantity']}, {metric['reduce']} over {metric['rows']} rows"
    title = f"{facts['name']} on {task['domain']}/{task['split']}: {name}; {task['samples']} samples"
    table = Table("rank", "head", "score", "95 % interval", title=title, title_justify="left")
    for rank, head in enumerate(scores.order()[:count], 1):
        low, high = (scores.interval[end][head.layer][head.index] for end in ("low", "high"))
        table.add_row(str(rank), str(head), f"{scores.scores[head.layer][head.index]:.3f}", f"{low:.3f} – {high:.3f}")
    out.print(table)
    facts = [f"accuracy {task['accuracy']:.3f}"]
    if scores.chance is not None:
        facts.append(f"chance {scores.chance:.3f}")
    if scores.reliability is not None:
        facts.append(f"split-half reliability {scores.reliability['whole']:.3f}")
    out.print("; ".join(facts), highlight=False)
