"""What a profile of a large model on many samples takes: the parts of one sample, and the bookkeeping of all.

    subject = published_size("qwen3-vl-32b", 0.05, layers=1, dtype=torch.float32, device="cpu")
    found = measure_scale(subject, samples=100_000)
    found.a_sample                              # seconds: the tower, and all layers with RAM read

A large model does not fit on a laptop, but one of its layers does, and all layers are alike. So the tower and one layer
are timed, and the layers added up: sample = tower + layers × layer. Bookkeeping needs no model. Random numbers in place
of scores are stored batch by batch, read, averaged and resampled, as `score_heads` does it with real ones.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from corelib.analysis.reliability import split_half
from corelib.analysis.stats import bootstrap_interval
from corelib.benchmarks.bench_models import BenchModel
from corelib.benchmarks.record_cost import ways
from corelib.benchmarks.timing import Times, machine_facts, peak_bytes, timed
from corelib.core.errors import BadInput, UnsupportedArchitecture
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.sample_store import SampleStore, in_batches
from corelib.core.values import BenchFacts, Machine, Software

BATCH = 8  # samples a shard
WORDS = ("input_ids", "attention_mask", "mm_token_type_ids")  # of the inputs, what the tower does not get


@runtime_checkable
class Seeing(Protocol):
    """A model whose vision tower can run alone."""

    def get_image_features(self, **inputs: Tensor) -> object: ...


@dataclass(frozen=True)
class Parts:
    """Durations of the parts of a sample."""

    tower: Times
    layer: Times
    layer_with_ram: Annotated[Times, Field(alias="layer with RAM")]


@dataclass(frozen=True)
class Books:
    """Seconds and bytes of the bookkeeping."""

    store: float
    load: float
    summarise: float
    on_disk: Annotated[int, Field(alias="on disk")]
    peak: int | None  # None where the system does not tell


@dataclass(frozen=True, repr=False)
class Scale(Result):
    """Seconds and bytes of the parts, as they were measured; what follows from them is computed when asked for."""

    schema: ClassVar[str] = "corelib/scale/1"

    model: BenchFacts
    tokens: int  # visual tokens of a sample
    repeats: int
    parts: Parts
    samples: int  # that were kept, read and summed up
    books: Books
    machine: Machine
    software: Software
    seconds: float

    @property
    def a_sample(self) -> float:
        """Seconds of one sample: the tower, and every layer with RAM read. Added up, not run."""
        return self.parts.tower.seconds + self.model.num_layers * self.parts.layer_with_ram.seconds


def measure_scale(
    subject: BenchModel,
    *,
    tokens: int = 1024,
    samples: int = 100_000,
    repeats: int = 3,
    progress: Progress = silent,
) -> Scale:
    """Time a published size with one layer (`bench_models.published_size`), then the bookkeeping of `samples` samples,
    in a folder that is gone afterwards.

    Raises: BadInput if there is more than one layer, or too little to time; UnsupportedArchitecture if the tower cannot
    be run by itself.
    """
    began = time.perf_counter()
    facts, model = subject.facts, subject.model
    if subject.pictures is None or facts.measured_layers != 1:
        raise BadInput("measure one layer of a published size: published_size(name, share, layers=1, …)")
    if repeats < 1 or samples < 4 or tokens < 64:
        raise BadInput(f"{tokens} tokens, {samples} samples, {repeats} repeats: give 64, 4 and 1 or more")
    inputs = {name: value for name, value in subject.pictures(tokens).items() if name not in WORDS}
    if not isinstance(model, Seeing):
        raise UnsupportedArchitecture(f"{type(model).__name__} has no get_image_features(): its tower cannot be timed")
    layer = ways(model, tokens)
    actions = {
        "tower": lambda: model.get_image_features(**inputs),
        "layer": layer["plain"],
        "layer_with_ram": layer["record"],
    }
    times: dict[str, list[float]] = {name: [] for name in actions}
    with torch.no_grad():
        for turn in range(repeats + 1):
            for name, action in actions.items():
                spent = timed(action, model.device)
                times[name] += [spent] if turn else []  # the first round warms up
            progress(turn + 1, repeats + 2)
    with tempfile.TemporaryDirectory() as place:
        books = time_bookkeeping(Path(place), samples, facts.num_layers, facts.num_heads)
    progress(repeats + 2, repeats + 2)
    return Scale(
        model=replace(facts, dtype=str(model.dtype).removeprefix("torch.")),
        tokens=tokens,
        repeats=repeats,
        parts=Parts(**{name: Times.of(mine) for name, mine in times.items()}),
        samples=samples,
        books=books,
        machine=machine_facts(model.device),
        software=software(),
        seconds=round(time.perf_counter() - began, 2),
    )


def time_bookkeeping(folder: Path, samples: int, layers: int, heads: int) -> Books:
    """Store so many samples' scores, read them, and sum them up, as `measure_heads` and `summarise_heads` do."""
    scores, device = torch.rand(BATCH, layers, heads, generator=torch.Generator().manual_seed(0)), torch.device("cpu")
    table: list[np.ndarray] = []

    def store() -> None:
        kept = SampleStore(folder, {})
        for indices in in_batches(BATCH)(list(range(samples))):
            # No two samples alike, and no time spent on drawing them.
            kept.add(indices, {"scores": scores[: len(indices)] + torch.tensor(indices)[:, None, None] % 97 / 97})

    def load() -> None:
        table.append(SampleStore(folder, {}).load()["scores"].numpy())

    def summarise() -> None:
        table[0].mean(0, dtype=np.float64)
        bootstrap_interval(table[0])
        split_half(table[0])

    with peak_bytes(device) as held:
        spent = {step.__name__: timed(step, device) for step in (store, load, summarise)}
    return Books(**spent, on_disk=sum(path.stat().st_size for path in folder.iterdir()), peak=held())
