"""Typed errors: every one is a `CorelibError`, and says in one line what was given, what is allowed, how to fix it.

The command line turns a `CorelibError` into that one line; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CorelibError(Exception):
    """The base of all errors that corelib raises on purpose."""


class BadInput(CorelibError, ValueError):
    """An argument has the wrong shape, type or value."""


class UnknownName(BadInput):
    """A name that is not in a registry.

    >>> raise UnknownName("metric", "lfit", ["lift", "raw"])
    Traceback (most recent call last):
        ...
    corelib.core.errors.UnknownName: unknown metric 'lfit': did you mean 'lift'? (allowed: lift, raw)
    """

    def __init__(self, what: str, given: object, allowed: Iterable[str]) -> None:
        self.what, self.given, self.allowed = what, given, tuple(str(name) for name in allowed)
        close = get_close_matches(str(given), self.allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        super().__init__(f"unknown {what} {given!r}: {hint}(allowed: {', '.join(self.allowed) or 'none'})")

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, object, tuple[str, ...]]]:
        """So that the error survives a worker process."""
        return type(self), (self.what, self.given, self.allowed)


def check_known(what: str, given: str, allowed: Iterable[str]) -> str:
    """`given` itself if it is one of `allowed`, and `UnknownName` if it is not."""
    if given not in allowed:
        raise UnknownName(what, given, allowed)
    return given


class NoControl(BadInput):
    """There is no disjoint set of heads to compare the tested ones with."""


class BadRegion(BadInput):
    """A box or a mask that selects nothing, or that lies outside its image."""


class BadWeights(CorelibError, ValueError):
    """A checkpoint that is missing, damaged, or not of the model it is said to be."""


class MissingPackage(CorelibError, ImportError):
    """An optional package that is not installed."""


class UnsupportedArchitecture(CorelibError, ValueError):
    """A model whose attention cannot be reached through the attention interface of transformers."""


class NotFinite(CorelibError, ArithmeticError):
    """A computation that overflowed: what came out is infinite or not a number."""


class BadResults(CorelibError, ValueError):
    """A results file that is missing, cut short, or of another schema or setting."""


class CannotWrite(CorelibError, OSError):
    """A path that cannot be written."""


class HubUnreachable(CorelibError, OSError):
    """A checkpoint or data set of the hub that cannot be had from here."""
