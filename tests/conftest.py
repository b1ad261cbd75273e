"""What many tests share. One thread a test process: two of them run on two cores, and small models need no more."""

from __future__ import annotations

import gc
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import CompletedProcess

import pytest
import torch

torch.set_num_threads(1)

# Warnings that a process of its own does not show either.
UNSEEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def pytest_collection_finish() -> None:
    """What is imported by now stays: whoever measures memory collects garbage, and need not look through all of it."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def vlm():
    """The embedded model."""
    from corelib.models.load import load

    return load("mini-s")


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., CompletedProcess]:
    """A command, in this process, by the console script's own `main`: its exit code, stdout and stderr."""
    from corelib.cli import main

    def show(message, category, filename, lineno, file=None, line=None):
        print(f"{filename}:{lineno}: {category.__name__}: {message}", file=sys.stderr)

    def run(*arguments: object, cwd: object = None) -> CompletedProcess:
        command = ["corelib", "--threads", "1", *map(str, arguments)]
        capsys.readouterr()
        with monkeypatch.context() as patch, warnings.catch_warnings():
            patch.setattr(sys, "argv", command)
            patch.setattr(sys, "excepthook", sys.excepthook)  # typer puts its own there
            if cwd is not None:
                patch.chdir(cwd)
            warnings.simplefilter("default")
            for category in UNSEEN:
                warnings.simplefilter("ignore", category)
            warnings.showwarning = show  # pytest would keep them to itself
            with pytest.raises(SystemExit) as stopped:
                main()
        code = stopped.value.code
        assert code is None or isinstance(code, int), code
        return CompletedProcess(command, code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def at_most() -> Callable:
    """As on a full disk: `with at_most(1000)`, no file grows beyond so many bytes."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def at_most(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return at_most


@pytest.fixture
def dice() -> random.Random:
    """Other draws in every run; a failure says which number throws them again."""
    seed = os.environ.get("CORELIB_DICE") or str(random.SystemRandom().randrange(10**6))
    print(f"the same draws again: CORELIB_DICE={seed}")
    return random.Random(seed)
