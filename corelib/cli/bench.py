"""`corelib bench`: what hybrid attention gains on this machine."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from corelib.cli.console import bar
from corelib.cli.options import known_models, percent
from corelib.cli.tables import show_speed
from corelib.core.errors import BadInput


def bench(
    lengths: Annotated[str, typer.Option(help="Sequence lengths in tokens; 4k is 4,096.")] = "2k,4k,8k",
    model: Annotated[
        str | None, typer.Option(help="A model with its trained weights; needs --scores.", callback=known_models)
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="The head-scores file whose best heads stay dense (`corelib score`).")
    ] = None,
    geometry: Annotated[
        str, typer.Option(help="Or the published size of a real model, with random weights: qwen3-vl-2b, …")
    ] = "qwen3-vl-2b",
    layers: Annotated[int | None, typer.Option(help="Only so many decoder layers of that size.")] = None,
    dense: Annotated[str, typer.Option(help="The share of heads that stay dense.")] = "5%",
    window: Annotated[int, typer.Option(help="Keys that all other heads see, up to their own.")] = 512,
    sinks: Annotated[int, typer.Option(help="Keys at the beginning that all heads see.")] = 64,
    first: Annotated[bool, typer.Option("--first", help="Also time to the first token, pictures included.")] = False,
    questions: Annotated[
        int, typer.Option(help="Also answer so many test questions both ways; needs --model (0: none).")
    ] = 0,
    backend: Annotated[
        str, typer.Option(help="fold (plain torch), flex (FlexAttention, on a GPU), or both: fold,flex.")
    ] = "auto",
    repeats: Annotated[int, typer.Option(help="Runs of each way, in turn, after a warm-up.")] = 7,
    busy: Annotated[bool, typer.Option("--busy", help="Time beside other work, too; the file says so.")] = False,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    seed: Annotated[int, typer.Option(help="Which heads are dense, where no scores say it.")] = 0,
    out_: Annotated[Path | None, typer.Option("--out", help="The bench file to write (JSON).")] = None,
) -> None:
    """Time dense attention against hybrid attention: few heads dense, all others sinks and a window.

    A geometry needs no weights: latency does not depend on them. The dense heads are then drawn at random, and the file
    says that the weights are. Beside each speed-up stands the one that counting keys would promise. Of a run with --out
    that was stopped, the same command keeps the lengths that are done.
    """
    import torch

    from corelib.benchmarks.bench_models import published_size, trained_model
    from corelib.benchmarks.speed import check_lengths, measure_speed
    from corelib.core.errors import check_known
    from corelib.core.head_scores import HeadScores
    from corelib.core.memory import check_device
    from corelib.core.results import check_writable
    from corelib.models.load import load
    from corelib.sparse import BACKENDS, Window

    share, shape, many = percent(dense, "--dense"), Window(window, sinks), _lengths(lengths)
    check_lengths(many, shape, repeats)
    check_device(device)
    kind = getattr(torch, check_known("dtype", dtype, ("bfloat16", "float16", "float32")))
    backends = [check_known("backend", one.strip(), BACKENDS) for one in backend.split(",")]
    if (model is None) != (scores is None):
        raise BadInput("--model and --scores belong together: the scores say which heads of the model stay dense")
    if questions < 0 or (questions and model is None):
        raise BadInput(f"--questions {questions}: give a number of questions, and the --model that answers them")
    store = None if out_ is None else check_writable(out_).with_name(f".{out_.name}.partial")
    if model is None or scores is None:
        subject = published_size(geometry, share, layers=layers, dtype=kind, device=device, seed=seed)
    else:
        subject = trained_model(load(model), HeadScores.load(scores), share, dtype=kind, device=device)
    with bar(subject.facts.name) as progress:
        found = measure_speed(
            subject.model, subject.dense, shape, many, facts=replace(subject.facts, dtype=dtype, seed=seed),
            pictures=subject.pictures if first else None, repeats=repeats, progress=progress,
            accuracy=partial(subject.accuracy, samples=questions) if questions and subject.accuracy else None,
            backends=backends, busy=busy, store=store,
        )  # fmt: skip
    if out_ is not None and store is not None:
        found.save(out_)
        store.unlink(missing_ok=True)
    show_speed(found)


def _lengths(text: str) -> list[int]:
    """`2k,4k` → [2048, 4096]."""
    parts = text.split(",")
    found = [one for part in parts if (one := re.fullmatch(r"(\d+)(k?)", part.strip())) and int(one[1])]
    if len(found) < len(parts):
        raise BadInput(f"--lengths {text}: give numbers of tokens with commas between them, such as 2k,4k or 1500")
    return [int(one[1]) * (1024 if one[2] else 1) for one in found]
