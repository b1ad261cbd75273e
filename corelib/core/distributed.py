"""Which of several processes is this? `accelerate launch` (and torchrun) tell each by its environment.

    accelerate launch --num_processes 4 -m corelib score --model Qwen/Qwen3-VL-8B-Instruct --out scores.json

The processes need not talk: each stores its batches, and the first one puts them together (`store.collect`).
"""

from __future__ import annotations

import os

from corelib.core.errors import BadInput


def rank_and_world_size() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are.

    >>> rank_and_world_size()
    (0, 1)
    """
    return _number("RANK", 0), max(1, _number("WORLD_SIZE", 1))


def local_rank() -> int:
    """The number of this process on its machine, which is the number of its GPU."""
    return _number("LOCAL_RANK", 0)


def _number(name: str, otherwise: int) -> int:
    given = os.environ.get(name, str(otherwise))
    if not given.isdecimal():
        raise BadInput(f"the environment variable {name} is {given!r}: a number is needed, or none at all")
    return int(given)
