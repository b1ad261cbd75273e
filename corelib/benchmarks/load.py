"""Is the machine doing anything else? Ratios of durations turn over beside other work: ask first, and tell.

What counts is measured while this process sleeps: how many processor cores are kept busy by others. (The system's own
"load average" lags a minute behind, and counts this process too.)
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from corelib.core.errors import BadInput

STAT = Path("/proc/stat")
QUIET = 0.25  # cores that may be busy with other work
ASLEEP = 1.0  # seconds


@dataclass(frozen=True)
class MachineLoad:
    """How many cores other work kept busy before the first length, and at most after one of them; None where the
    system does not tell. Of a run that went on, the most of each."""

    before: float | None
    after: float | None

    @property
    def busy(self) -> bool:
        """Was there so much of it that the durations are no result?

        >>> MachineLoad(0.0, 1.3).busy, MachineLoad(0.1, None).busy
        (True, False)
        """
        return any(one is not None and one > QUIET for one in (self.before, self.after))

    def __str__(self) -> str:
        """
        >>> print(MachineLoad(0.02, 1.3))
        other work: 0.02 cores before, 1.30 after; the machine was busy, so these durations are no result
        """
        before, after = ("unknown" if one is None else f"{one:.2f}" for one in (self.before, self.after))
        warning = "; the machine was busy, so these durations are no result" if self.busy else ""
        return f"other work: {before} cores before, {after} after{warning}"


def cores_busy(seconds: float = ASLEEP) -> float | None:
    """How many processor cores are busy while this process sleeps for so many seconds; None where the system does not
    tell (it is read from /proc/stat)."""
    try:
        before = _spent()
        time.sleep(seconds)
        return max(0.0, (_spent() - before) / seconds)
    except (OSError, ValueError, IndexError):
        return None


def require_quiet(busy: bool) -> float | None:
    """The cores that other work keeps busy now.

    Raises: BadInput if they are more than `QUIET`, unless a `busy` machine is allowed.
    """
    found = cores_busy()
    if found is not None and found > QUIET and not busy:
        raise BadInput(
            f"other work keeps {found:.1f} of {os.cpu_count()} processor cores busy, and durations beside it mislead: "
            "wait until it is done, or give --busy (busy=True), which marks the result as no result"
        )
    return found


def _spent() -> float:
    """Seconds that all cores together have worked since the machine began: all but idle and waiting."""
    user, nice, system, _, _, *others = map(int, STAT.read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")
