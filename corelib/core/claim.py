"""One command at a time in a folder of work that is not finished.

    with claimed(folder):           # refused while another command is at work there
        …

The claim ends with the process, however it ends. If nothing was kept, the folder goes again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from corelib.core.distributed import rank_and_world_size
from corelib.core.errors import BadInput, CannotWrite


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Work in a folder alone: of several processes that share the work, each has a claim of its own.

    Raises: BadInput if another command is at work there, CannotWrite if the folder cannot be made.
    """
    rank, count = rank_and_world_size()
    claim = folder.with_name(f"{folder.name}.claim-{rank}")
    try:
        folder.mkdir(exist_ok=True)
        lock = FileLock(claim)
        lock.acquire(blocking=False)
    except Timeout:
        raise BadInput(f"another command is at work in {folder}: wait for it, or give another --out") from None
    except OSError as error:
        raise CannotWrite(f"cannot write {folder}: {error.strerror or error}") from None
    try:
        yield
    finally:
        claim.unlink(missing_ok=True)
        lock.release()
        if count == 1 and folder.is_dir() and not any(one.is_file() for one in folder.rglob("*")):
            shutil.rmtree(folder)
