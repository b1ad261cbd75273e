"""What hybrid attention gains, in seconds and bytes, on the processor at hand.

Four durations, dense against hybrid: attention, prefill, the first token, a decoding step (`phases.py`). Beside each
speed-up stands what it would be if a key cost the same everywhere, `ideal`. With f the attention's share of the dense
duration, p the share of dense heads, and w the keys that a windowed row sees of the n that a dense one sees, both on
average:

    ideal = 1 / ((1 − f) + f · (p + (1 − p) · w / n))

Dense is transformers' own `sdpa` path. Nothing falls back to it: a hybrid that is slower is reported as slower. Two
sizes go with the durations: the most bytes that prefill holds beyond the weights, and those of the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from transformers import PreTrainedModel

from corelib.attention.interface import attention_modules
from corelib.benchmarks.kept_lengths import go_on, with_row
from corelib.benchmarks.load import MachineLoad, require_quiet
from corelib.benchmarks.phases import Phases, Pictures
from corelib.benchmarks.timing import Compared, Sizes, machine_facts
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import Heads, HeadSet
from corelib.core.memory import check_fits, working_bytes
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import BenchFacts, Machine, Software, WindowFacts
from corelib.experiments.out_of_window import HybridAccuracy
from corelib.sparse import BACKENDS, Window, sparsify
from corelib.sparse.window import mean_keys


@dataclass(frozen=True)
class SpeedAt:
    """Durations and sizes at one length, with one backend."""

    tokens: int
    backend: str
    attention: Compared
    prefill: Compared
    decode: Compared
    cache: Sizes
    memory: Sizes
    first: Compared | None = None  # with the vision tower, where there are pictures


@dataclass(frozen=True, repr=False)
class Speed(Result):
    """Durations by length of the sequence."""

    schema: ClassVar[str] = "corelib/bench/1"

    model: BenchFacts
    dense: Heads  # that attend to everything
    window: WindowFacts
    repeats: int
    lengths: tuple[SpeedAt, ...]
    machine: Machine
    software: Software
    seconds: float
    accuracy: HybridAccuracy | None = None  # of trained weights, where it was asked for
    other_work: MachineLoad | None = None  # None: of the first round, which did not ask

    def at(self, tokens: int) -> SpeedAt:
        """What was measured at a length, with the first backend.

        Raises: UnknownName for another length.
        """
        check_known("length", str(tokens), [str(one.tokens) for one in self.lengths])
        return next(one for one in self.lengths if one.tokens == tokens)

    def find(self, tokens: int, backend: str, *, first: bool) -> SpeedAt | None:
        """What was measured at a length with a backend, with or without pictures; None if nothing was."""
        fits = (row for row in self.lengths if (row.tokens, row.backend) == (tokens, backend))
        return next((row for row in fits if (row.first is not None) == first), None)

    def crossover(self, phase: str = "prefill") -> int | None:
        """The least of the lengths from which on hybrid is no slower than dense, with any backend; None if it is slower
        at the longest.

        Raises: UnknownName for a phase that is not timed.
        """
        check_known("phase", phase, ("attention", "prefill", "first", "decode"))
        faster: dict[int, float] = {}
        for row in self.lengths:
            one: Compared | None = getattr(row, phase)
            faster[row.tokens] = max(faster.get(row.tokens, 0.0), 0.0 if one is None else one.speedup)
        found = None
        for tokens in sorted(faster, reverse=True):
            if faster[tokens] < 1:
                break
            found = tokens
        return found


@torch.no_grad()
def measure_speed(
    model: PreTrainedModel,
    dense: HeadSet,
    window: Window,
    lengths: Sequence[int],
    *,
    facts: BenchFacts,
    pictures: Pictures | None = None,
    accuracy: Callable[[HeadSet, Window], HybridAccuracy] | None = None,
    backends: Sequence[str] = ("auto",),
    repeats: int = 7,
    busy: bool = False,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Speed:
    """Time a model at each of the `lengths`, in tokens, with each of the `backends` (`sparsify`).

    `pictures(tokens)` makes inputs with pictures, for the time to the first token; `accuracy(dense, window)` tells what
    is still answered. Lengths that will not fit in memory are refused before anything is allocated. Beside other work
    nothing is timed, unless `busy` allows it: then the result says so (`load.py`).

    A `store` is a file in which every length is kept as soon as it is timed: a run that was stopped goes on from there.
    What it holds of another model, dtype, window or machine, of other heads, threads or versions, is timed anew.

    Raises: BadInput if there is no length beyond the sinks or no repeat, if a window is all of a sequence, if a length
    does not fit in memory, if the machine is busy, or for `flex` without a GPU; UnknownName for another backend.
    """
    layers, heads = len(attention_modules(model)), model.config.get_text_config().num_attention_heads
    dense.check(layers, heads)
    check_lengths(lengths, window, repeats)
    chosen = [("flex" if model.device.type == "cuda" else "fold") if one == "auto" else one for one in backends]
    for one in chosen:
        check_known("backend", one, BACKENDS)
    if "flex" in chosen and model.device.type != "cuda":
        raise BadInput("FlexAttention is compiled for GPUs; here it would make a matrix of all pairs: time `fold`")
    for length in lengths:
        needed = working_bytes(model, length)
        check_fits(f"{length} tokens (beside the weights)", needed, model.device, "take fewer tokens or fewer layers")
    promise = partial(ideal, dense=len(dense) / (layers * heads), window=window)
    found = Speed(
        model=facts,
        dense=dense,
        window=WindowFacts(window.width, window.sinks),
        repeats=repeats,
        lengths=(),
        other_work=MachineLoad(require_quiet(busy), None),
        machine=machine_facts(model.device),
        software=software(),
        seconds=0.0,
    )
    found = go_on(found, store)
    wanted = [(length, backend) for length in lengths for backend in chosen]
    for done, (length, backend) in enumerate(wanted):
        progress(done, len(wanted))
        if found.find(length, backend, first=pictures is not None) is None:
            began = time.perf_counter()
            hybrid = partial(sparsify, model, dense, window, backend=backend)
            row = SpeedAt(length, backend, **Phases(model, hybrid, promise, repeats).at(length, pictures))
            found = with_row(found, row, time.perf_counter() - began)
            if store is not None:
                found.save(store)
    progress(len(wanted), len(wanted))
    rows = (found.find(*one, first=pictures is not None) for one in wanted)
    kept = None if accuracy is None else accuracy(dense, window)
    return replace(found, lengths=tuple(row for row in rows if row is not None), accuracy=kept)


def check_lengths(lengths: Sequence[int], window: Window, repeats: int) -> None:
    """Refuse lengths that tell nothing.

    Raises: BadInput if there is no length beyond the sinks or no repeat, or if a window is all of a sequence.
    """
    if not lengths or min(lengths) <= window.sinks or repeats < 1:
        raise BadInput(
            f"lengths {list(lengths)}, {repeats} repeats: give lengths beyond the {window.sinks} sinks, and 1 repeat "
            "or more"
        )
    if min(lengths) <= window.sinks + window.width:
        raise BadInput(
            f"{window.width} keys and {window.sinks} sinks are all of {min(lengths)} tokens: give a smaller window, or "
            "longer sequences"
        )


def ideal(share: float, dense: float, window: Window, rows: int) -> float:
    """The speed-up of something of which `share` is attention, if a key cost the same in every head.

    >>> round(ideal(1.0, 0.0, Window(4, sinks=0), 7), 2)  # a row sees 4 of 7 keys on average, and 22 of 28 in all
    1.27
    """
    left = mean_keys(dense, window, rows) / mean_keys(1.0, window, rows)
    return 1 / ((1 - share) + share * left)
