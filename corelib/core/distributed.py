"""Which of several processes is this? `accelerate launch` (and torchrun) tell each by its environment.

    accelerate launch --num_processes 4 -m corelib score --model Qwen/Qwen3-VL-8B-Instruct --out scores.json

The processes need not talk: each stores its batches, and the first one puts them together (`store.collect`). Inside of
`shared`, every sweep that has a store divides its samples so, and all processes read what comes out:

    with shared(folder) as first:                   # is this the first process?
        found = ablate_top(vlm, draw, ranking, store=folder)
    if first:
        found.save("ablation.json")
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from corelib.core.errors import BadInput

PATIENCE = 60.0  # seconds that the first process waits for the others to have read a store, before it clears it away
_process: ContextVar[tuple[int, int]] = ContextVar("process", default=(0, 1))  # (rank, world size) of `shared`


def rank_and_world_size() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are.

    Raises: BadInput if the environment tells no numbers, or a rank that is not among the processes.

    >>> rank_and_world_size()
    (0, 1)
    """
    rank, count = _number("RANK", 0), max(1, _number("WORLD_SIZE", 1))
    if rank >= count:
        raise BadInput(f"RANK is {rank}, WORLD_SIZE {count}: ranks count from 0, so there is no such process")
    return rank, count


def local_rank() -> int:
    """The number of this process on its machine, which is the number of its GPU."""
    return _number("LOCAL_RANK", 0)


def _number(name: str, otherwise: int) -> int:
    given = os.environ.get(name, str(otherwise))
    if not given.isdecimal():
        raise BadInput(f"the environment variable {name} is {given!r}: a number is needed, or none at all")
    return int(given)


@contextmanager
def shared(store: Path) -> Iterator[bool]:
    """Sweeps that keep what is done in `store`, or below, are shared among the processes that the environment tells of.
    Gives whether this is the first one, which alone should write results.

    Raises: BadInput as `rank_and_world_size`.
    """
    rank, count = rank_and_world_size()
    (store / f"left-{rank}").unlink(missing_ok=True)  # of a run that was stopped
    token = _process.set((rank, count))
    try:
        yield rank == 0
    finally:
        _process.reset(token)


def sharing() -> tuple[int, int]:
    """(rank, world size) inside of `shared`; (0, 1) outside.

    >>> sharing()
    (0, 1)
    """
    return _process.get()


def leave(store: Path) -> None:
    """Another process than the first has read all it needs from a store."""
    (store / f"left-{rank_and_world_size()[0]}").touch()


def wait_for_others(store: Path) -> bool:
    """Wait until all other processes have left a store, a minute at most. Gives whether they have."""
    others = [store / f"left-{rank}" for rank in range(1, rank_and_world_size()[1])]
    until = time.monotonic() + PATIENCE
    while not all(one.exists() for one in others):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
