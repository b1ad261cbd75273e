"""The lengths that a bench has timed already: a run that was stopped goes on from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from corelib.benchmarks.load import MachineLoad, cores_busy
from corelib.core.errors import BadResults

if TYPE_CHECKING:
    from corelib.benchmarks.speed import Speed, SpeedAt


def go_on(begun: Speed, store: str | Path | None) -> Speed:
    """With the lengths in the store, if all that durations depend on is the same."""
    try:
        kept = None if store is None else begun.load(store)
    except BadResults:
        return begun  # there is none, or it is damaged
    if kept is None or kept.other_work is None or begun.other_work is None:
        return begun
    before = _most(kept.other_work.before, begun.other_work.before)
    same = replace(begun, lengths=kept.lengths, seconds=kept.seconds, other_work=kept.other_work)
    return replace(same, other_work=MachineLoad(before, kept.other_work.after)) if same == kept else begun


def with_row(found: Speed, row: SpeedAt, seconds: float) -> Speed:
    """With one more row, and the load of the machine after it."""
    load = found.other_work or MachineLoad(None, None)
    return replace(
        found,
        lengths=(*found.lengths, row),
        seconds=round(found.seconds + seconds, 2),
        other_work=MachineLoad(load.before, _most(load.after, cores_busy())),
    )


def _most(*cores: float | None) -> float | None:
    return max((one for one in cores if one is not None), default=None)
