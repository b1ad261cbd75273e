"""What a run will take of the memory, said before it begins, and refused if it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corelib.cli.console import err

if TYPE_CHECKING:
    from corelib.models.memory_estimate import MemoryEstimate
    from corelib.models.vlm import VLM

LESS = "use --dtype float16, a smaller model, or a larger device"


def say_memory(vlm: VLM, estimate: MemoryEstimate, instead: str, *, least: MemoryEstimate | None = None) -> None:
    """One line on stderr, of the first of several processes; `instead` says what else to change if it will not fit.

    Where the estimate is an upper bound, `least` is what the run needs in any case, and decides whether it is refused.

    Raises: BadInput if it will not fit.
    """
    from corelib.core.distributed import rank_and_world_size
    from corelib.models.memory_estimate import check_room

    free = check_room(vlm, least or estimate, f"{instead}, or {LESS}")
    if rank_and_world_size()[0] == 0:
        there = "" if free is None else f"; free beside the weights: {free / 2**30:.1f} GiB"
        bound = "at most " if least else ""
        err.print(f"{vlm.name}: {bound}{estimate}{there}", highlight=False, markup=False, soft_wrap=True)
