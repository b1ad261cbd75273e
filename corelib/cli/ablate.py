"""`corelib ablate`: remove the heads on top of a ranking, and others, and compare."""

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
from corelib.cli.tables import show_ablation


@loads_checkpoints
def ablate(
    scores: Ranking,
    out_: Annotated[Path, typer.Option("--out", help="The ablation file to write (JSON).")],
    model: RankedModel = "mini-s",
    domain: TestedDomain = None,
    top: Annotated[str, typer.Option(help="The share of heads to remove.")] = "5%",
    mode: Annotated[
        str,
        typer.Option(
            help="What their output becomes: zero, mean, resample (another sample's); or what they cannot see after "
            "the pictures: knockout (the evidence), image_knockout (the pictures)."
        ),
    ] = "zero",
    draws: Annotated[
        int, typer.Option(help="Sets for each null: matched by layer, by layer and group, by output norm; random.")
    ] = 200,
    curve: Annotated[
        bool, typer.Option(help="Also remove 1, 2, 5, … 50 % of the heads (dose curve, D50), and let only so many see.")
    ] = False,
    samples: TestSamples = 512,
    questions: Annotated[int, typer.Option(help="Questions about each picture; intervals resample pictures.")] = 4,
    seed: TestSeed = 0,
    split: TestSplit = "test",
    same_samples: SameSamples = False,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples in one forward pass. Left out: 16, of a published checkpoint 2.")
    ] = None,
    *,
    how: Loading,
) -> None:
    """Remove the heads on top of a ranking; say what is lost, and what removing *other* heads loses.

    The control that counts is matched by layer and key/value group: as many other heads of each layer, from as many
    groups that share a key/value head. The file tells how often such a control does at least as much harm. A run that
    was stopped goes on where it was.

    Several processes share the samples: `accelerate launch -m corelib ablate …` writes the file that one would.
    """
    from corelib.analysis.dose_response import DOSES
    from corelib.core import distributed
    from corelib.core.claim import claimed
    from corelib.core.errors import check_known
    from corelib.core.head_scores import HeadScores
    from corelib.core.results import check_writable
    from corelib.experiments.ablation import ablate_top
    from corelib.experiments.answer_sweep import MODES
    from corelib.experiments.score_heads import score_heads
    from corelib.metrics.catalogue import Metric
    from corelib.models.load import load
    from corelib.models.memory_estimate import estimate_pass, estimate_replay
    from corelib.tasks.draw import TOGETHER

    fraction = percent(top)
    check_known("ablation mode", mode, MODES)
    ranking, draw = ranked_draw(scores, domain, split, samples=samples, seed=seed, questions=questions)
    check_writable(out_, scores)
    vlm, partial = load(model, **how), out_.with_name(f".{out_.name}.partial")
    batch_size = min(16, vlm.batch_size) if batch_size is None else batch_size

    begun = vlm.encode(draw.take(draw.batches(batch_size, together=TOGETHER)[0]))
    room = estimate_replay(vlm, begun, sets=draws if mode == "zero" else 1)
    least = estimate_pass(vlm.model, begun.inputs)
    say_memory(vlm, room, "give a smaller --batch-size, or scores of smaller pictures", least=least)

    def norms() -> HeadScores:
        known = draw.task.draw("select", samples=draw.task.available("select", 64))
        return score_heads(vlm, known, metric=Metric("output_norm"), batch_size=batch_size)

    with claimed(partial), distributed.shared(partial) as first:
        with bar(f"{vlm.name} · {draw.task.name}") as progress:
            found = ablate_top(
                vlm, draw, ranking, fraction=fraction, mode=mode, draws=draws, doses=DOSES if curve else None,
                norms=norms, batch_size=batch_size, same_samples=same_samples, store=partial, progress=progress,
            )  # fmt: skip
        if finish(found, out_, partial, first) and out.is_terminal:
            show_ablation(found)
