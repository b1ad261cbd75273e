"""`corelib compare`: what head-scores files say, ours and those that others published, and whether they agree."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.console import out
from corelib.cli.options import percent
from corelib.cli.tables import show_scores


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Head-scores files: those that `corelib score` wrote, or published ones: JSON of layer-head → scores "
            "(Retrieval_Head, HeadKV, SparseMM) or of a table, a .tsv of gates (DuoAttention)."
        ),
    ],
    top: Annotated[str, typer.Option(help="The share of heads to call CoRe heads.")] = "5%",
    size: Annotated[
        str | None,
        typer.Option(
            help="Of a published file whose name tells no model that is known: its layers, heads and key/value heads, "
            "such as 32x32x8."
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON, for other programs.")] = False,
) -> None:
    """Rank the heads of head-scores files; of several, say how far they agree.

    For each file: the top heads, how much of the whole they hold, how uneven the scores are, and how well the ranking
    repeats itself. For each pair of files of one model: rank correlation, shared heads with what chance would share,
    both also within layers, and rank-biased overlap.
    """
    import numpy as np

    from corelib.analysis.agreement import compare_heads
    from corelib.analysis.concentration import Concentration
    from corelib.analysis.published import decoder_of_size, read_scores

    fraction = percent(top)
    decoder = None if size is None else decoder_of_size(size)
    scores = [read_scores(path, decoder) for path in files]
    alike = [
        (a, b)
        for a, b in itertools.combinations(range(len(files)), 2)
        if scores[a].model.sha256 == scores[b].model.sha256
    ]
    pairs = {(a, b): compare_heads(scores[a], scores[b], fraction) for a, b in alike}
    tops = [one.top(fraction) for one in scores]
    spread = [Concentration.of(one, fraction) if np.min(one) >= 0 else None for one in scores]
    if json_:
        payload = {
            "schema": "corelib/ranking/1",
            "fraction": fraction,
            "files": [
                {
                    "file": str(path), "model": one.model.name, "task": asdict(one.task), "metric": asdict(one.metric),
                    "order": [str(head) for head in one.order()], "top": best.to_json(),
                    "sparsity": asdict(uneven) if uneven else None,
                    "reliability": asdict(one.reliability) if one.reliability else None,
                }
                for path, one, best, uneven in zip(files, scores, tops, spread, strict=True)
            ],
            "pairs": [
                {
                    "files": [str(files[a]), str(files[b])],
                    **{
                        name: {**asdict(part), "shared": part.shared.to_json()} if hasattr(part, "shared") else part
                        for name, part in vars(found).items()
                    },
                }
                for (a, b), found in pairs.items()
            ],
        }  # fmt: skip
        typer.echo(json.dumps(payload, indent=1))
        return
    for one, best, uneven in zip(scores, tops, spread, strict=True):
        show_scores(one, max(len(best), 8))
        held = f"; they hold {uneven.top:.0%} of it all (Gini {uneven.gini:.2f})" if uneven else ""
        out.print(f"top {top}: {best}{held}\n", highlight=False)
    if len(files) > 1 and not pairs:
        out.print("these are of different models: head L3H2 of one is another head in the other, so none are paired")
    for (a, b), found in pairs.items():
        within, groups = found.top_within_layers, found.top_within_groups
        out.print(
            f"{files[a]} · {files[b]}\n"
            f"  rank agreement {found.spearman:.2f}, within layers {found.spearman_within_layers:.2f}; "
            f"rank-biased overlap {found.rank_biased_overlap:.2f}\n"
            f"  top {top}: {found.top} (p = {found.top.chance:.2g}); "
            f"{within.expected:.1f} within layers (p = {within.chance:.2g}), {groups.expected:.1f} within key/value "
            f"groups (p = {groups.chance:.2g}, no less than {groups.least:.2g})",
            highlight=False,
        )
