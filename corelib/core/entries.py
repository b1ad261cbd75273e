"""Values that people write, in files and in calls: are they of the kind that is needed?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from operator import index
from typing import TYPE_CHECKING, Any

from corelib.core.errors import BadInput

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LARGEST = 1e300  # of a number: sums and squares of larger ones are infinite
WANTED = {  # by the type of an entry
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "tuple[str, ...]": "a list of texts",
}


def check_whole(what: str, given: object, least: int = 0, most: int | None = None) -> int:
    """`given` as a whole number, of Python or numpy.

    Raises: BadInput if it is none, less than `least`, or more than `most`.

    >>> check_whole("samples", 8, 1)
    8
    """
    try:
        number = least - 1 if isinstance(given, bool) else index(given)  # type: ignore[arg-type]  # a TypeError is meant
    except TypeError:
        number = least - 1
    if number < least:
        raise BadInput(f"{what} must be a whole number, {least} or more, got {given!r:.60}")
    if most is not None and number > most:
        raise BadInput(f"{what} must be {most:,} or fewer, got {number:.3g}")
    return number


def check_entries(what: str, given: DataclassInstance) -> None:
    """Refuse a dataclass with an entry that is not of the type that it is declared with. What is declared with none of
    the types of `WANTED` must be a table.

    Raises: BadInput, which names the entry and says what is needed.
    """
    for entry in fields(given):
        value, kind = getattr(given, entry.name), str(entry.type)
        if not _is_of(kind, value):
            raise BadInput(f"{what}: {entry.name} is {value!r:.60}: give {WANTED.get(kind, 'a table')}")


def _is_of(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    if isinstance(value, int | float):
        whole = isinstance(value, int)
        return abs(value) < LARGEST and (kind == "float" or (kind == "int" and whole))
    if isinstance(value, tuple | list):
        return kind == "tuple[str, ...]" and all(isinstance(one, str) for one in value)
    return isinstance(value, str) if kind == "str" else isinstance(value, Mapping) and kind not in WANTED
