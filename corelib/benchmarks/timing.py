"""Seconds and bytes of what a model does, on the processor at hand: the tools of `speed.py` and `record_cost.py`."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from corelib.attention.interface import AttentionCall, Inner, running
from corelib.core.results import machine
from corelib.core.values import Machine

PROC = Path("/proc/self")


def timed(action: Callable[[], object], device: torch.device) -> float:
    """How long it takes, in seconds; what an accelerator still has to do is waited for."""
    synchronise(device)
    start = time.perf_counter()
    action()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Until the device has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Times:
    """Several runs: the median, and how far they lie apart."""

    seconds: float
    least: float
    most: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Times:
        """
        >>> Times.of([3.0, 1.0, 2.0])
        Times(seconds=2.0, least=1.0, most=3.0)
        """
        return cls(statistics.median(times), min(times), max(times))


@dataclass(frozen=True)
class Compared:
    """Dense against hybrid attention, and the ratio of the medians."""

    dense: Times
    hybrid: Times
    speedup: float
    ideal: float | None = None  # what the speed-up would be if a key cost the same everywhere
    tokens: int | None = None  # of the sequence, where it is not that of the row

    @classmethod
    def of(cls, both: Mapping[str, Sequence[float]]) -> Compared:
        """
        >>> Compared.of({"dense": [4.0], "hybrid": [2.0]}).speedup
        2.0
        """
        dense, hybrid = Times.of(both["dense"]), Times.of(both["hybrid"])
        return cls(dense, hybrid, dense.seconds / hybrid.seconds)


@dataclass(frozen=True)
class Sizes:
    """Bytes of both; None where the system does not tell."""

    dense: Annotated[int | None, Field(alias="dense bytes")]
    hybrid: Annotated[int | None, Field(alias="hybrid bytes")]


def machine_facts(device: torch.device) -> Machine:
    """What durations depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {**machine(), "threads": torch.get_num_threads(), "device": name}


@contextmanager
def attention_seconds(model: nn.Module) -> Iterator[Callable[[], float]]:
    """How long the attention function takes, all layers together: a function to be called afterwards."""
    total = 0.0

    def program(call: AttentionCall, inner: Inner) -> Tensor:
        nonlocal total
        synchronise(call.query.device)
        start = time.perf_counter()
        out = inner(call)
        synchronise(call.query.device)
        total += time.perf_counter() - start
        return out

    with running(model, program):
        yield lambda: total


@contextmanager
def peak_bytes(device: torch.device) -> Iterator[Callable[[], int | None]]:
    """The most bytes held within, beyond those before; None where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # hand back what was freed before
        (PROC / "clear_refs").write_text("5")  # the peak begins anew
        before, after = _resident(), None
    except (OSError, AttributeError):
        yield lambda: None
        return
    try:
        yield lambda: after
    finally:
        after = max(0, _resident() - before)


def _resident() -> int:
    """The largest resident set since the peak was reset, in bytes."""
    lines = (PROC / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
