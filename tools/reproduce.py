"""Compute a row of the report card anew, and set it beside what is committed.

    make reproduce ROW=necessity SEED=31 [DOMAIN=scenes] [CARD=mini-s]

Minutes for `bridge`, on 64 questions a domain and 20 matched sets: enough to see an effect come back, not to judge it.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from corelib.atlas.reproduce import ROWS, SETS, reproduce
from corelib.cli.console import bar, err, out
from corelib.core.errors import CorelibError
from corelib.tasks import DOMAINS


def main(
    row: Annotated[str, typer.Argument(help=f"A row of the card: {', '.join(ROWS)}.")],
    seed: Annotated[int, typer.Option(help="Of the new samples; those of the book's results are refused.")],
    model: Annotated[str, typer.Option(help="A bundled model.")] = "bridge",
    domain: Annotated[list[str] | None, typer.Option(help="Give it again for more; left out: all three.")] = None,
) -> None:
    """Compute a row of the report card anew, and set it beside what is committed."""
    from corelib import load

    try:
        vlm, began = load(model), time.perf_counter()
        with bar(f"{model} · {row}") as progress:
            found = list(reproduce(vlm, row, seed=seed, domains=tuple(domain or DOMAINS), progress=progress))
    except CorelibError as error:
        err.print(f"error: {error}", highlight=False)
        raise typer.Exit(2) from None
    for committed, anew in found:
        for name, one in (("committed", committed), (f"seed {seed}", anew)):
            out.print(
                f"{one.domain:10} {name:10} {one.judgement.verdict.value:12} {one.effect}; {one.control}",
                highlight=False,
                soft_wrap=True,
            )
    out.print(f"{SETS} sets, so that no p is below {1 / (1 + SETS):.3f}; {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    typer.run(main)
