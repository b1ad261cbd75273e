"""`corelib redirect`: move the gaze of heads, and see where the answers go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.console import bar, out
from corelib.cli.memory import say_memory
from corelib.cli.options import (
    Loading,
    RankedModel,
    Ranking,
    SameSamples,
    TestedDomain,
    TestSamples,
    TestSeed,
    TestSplit,
    finish,
    loads_checkpoints,
    percent,
    ranked_draw,
)
from corelib.cli.tables import show_redirection


@loads_checkpoints
def redirect(
    scores: Ranking,
    out_: Annotated[Path, typer.Option("--out", help="The redirection file to write (JSON).")],
    model: RankedModel = "mini-s",
    domain: TestedDomain = None,
    top: Annotated[str, typer.Option(help="The share of heads whose gaze is moved.")] = "5%",
    strength: Annotated[
        str,
        typer.Option(
            help="mass-preserving: what they pay to the evidence goes to the other object; forced: they see that "
            "object only; hidden: they do not see the evidence."
        ),
    ] = "mass-preserving",
    rows: Annotated[
        str, typer.Option(help="after (all rows after the pictures) or answer (those that predict the answer).")
    ] = "after",
    draws: Annotated[
        int, typer.Option(help="Control sets, matched by layer and key/value group; all, if there are no more.")
    ] = 100,
    details: Annotated[
        bool, typer.Option(help="Also fewer and more heads, single rows, other strengths, two checks of specificity.")
    ] = True,
    samples: TestSamples = 512,
    questions: Annotated[int, typer.Option(help="Questions about each picture, between which the gaze moves.")] = 4,
    seed: TestSeed = 0,
    split: TestSplit = "test",
    same_samples: SameSamples = False,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples in one forward pass. Left out: 32, of a published checkpoint 2.")
    ] = None,
    *,
    how: Loading,
) -> None:
    """Move the attention of the top heads from the evidence to another object, and count where the answers go.

    Every question is paired with another one about the same picture. Of those that are answered rightly, how many get
    the other object's answer? All other heads together, and sets matched by layer and key/value group, are the
    controls. A run that was stopped goes on where it was.

    Several processes share the samples: `accelerate launch -m corelib redirect …` writes the file that one would.
    """
    from typing import cast

    from corelib.attention.redirect import STRENGTHS, Strength
    from corelib.core import distributed
    from corelib.core.claim import claimed
    from corelib.core.errors import check_known
    from corelib.core.results import check_writable
    from corelib.experiments.redirection import ROWS, redirect_top
    from corelib.models.load import load
    from corelib.models.memory_estimate import estimate_pass, estimate_replay
    from corelib.tasks.draw import TOGETHER

    fraction = percent(top)
    kind = cast(Strength, check_known("strength", strength, STRENGTHS))
    check_known("rows of a redirection", rows, ROWS)
    ranking, draw = ranked_draw(scores, domain, split, samples=samples, seed=seed, questions=questions)
    check_writable(out_, scores)
    vlm, partial = load(model, **how), out_.with_name(f".{out_.name}.partial")
    batch_size = vlm.batch_size if batch_size is None else batch_size
    begun = vlm.encode(draw.take(draw.batches(batch_size, together=TOGETHER)[0]))
    room = estimate_replay(vlm, begun, passes=2)  # with the own answers, and with those of the rivals
    least = estimate_pass(vlm.model, begun.inputs)
    say_memory(vlm, room, "give a smaller --batch-size, or scores of smaller pictures", least=least)
    with claimed(partial), distributed.shared(partial) as first:
        with bar(f"{vlm.name} · {draw.task.name}") as progress:
            found = redirect_top(
                vlm, draw, ranking, fraction=fraction, strength=kind, rows=rows, draws=draws, details=details,
                batch_size=batch_size, same_samples=same_samples, store=partial, progress=progress,
            )  # fmt: skip
        if finish(found, out_, partial, first) and out.is_terminal:
            show_redirection(found)
