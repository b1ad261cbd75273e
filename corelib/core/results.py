"""Results on disk: written whole or not at all, and refused when they are not what they should be."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError

from corelib.core.errors import BadResults, CannotWrite
from corelib.core.values import Machine, Software

LONGEST_NAME = 200  # bytes: file systems take 255, and what a run puts beside its file has a longer name
ROW = re.compile(r"\[[-+.\deE,\s]+\]")  # a list of numbers
PACKAGES = {"corelib": "corelib-heads", "torch": "torch", "transformers": "transformers", "numpy": "numpy"}


def software(**more: str) -> Software:
    """Versions that a result depends on, read without importing anything heavy; and `more`."""
    found: Software = {"python": platform.python_version()}
    for name, distribution in PACKAGES.items():
        try:
            found[name] = version(distribution)
        except PackageNotFoundError:
            found[name] = None
    return {**found, **more}


def machine() -> Machine:
    """What a duration depends on, as far as the standard library can tell."""
    return {"processor": platform.machine(), "cores": os.cpu_count()}


def check_writable(path: str | Path, *inputs: Path) -> Path:
    """Refuse a path now rather than after an hour of computing.

    Raises: CannotWrite if the folder does not exist or takes no file, if the path is a folder, a device or a pipe, or
        one of the files that are read (`inputs`), or its name is too long.
    """
    path = Path(path)
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise CannotWrite(
            f"cannot write {path.name:.20}…: the name is too long; give one of {LONGEST_NAME} bytes at most"
        )
    if not os.path.isdir(path.parent):
        raise CannotWrite(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise CannotWrite(f"cannot write {path}: it is a folder; give a file name")
    if path.exists() and not path.is_file():
        raise CannotWrite(f"cannot write {path}: it is a device or a pipe, which would be replaced; give a file name")
    if any(path.exists() and one.exists() and path.samefile(one) for one in inputs):
        raise CannotWrite(f"cannot write {path}: it is read by this command; give another name")
    if not os.access(path.parent, os.W_OK):
        raise CannotWrite(f"cannot write {path}: no permission in {path.parent}; choose another folder")
    return path


def check_folder(path: str | Path) -> Path:
    """Refuse now a folder that cannot be written into, or made where it is to be.

    Raises: CannotWrite if it is a file, or, where there is none, as `check_writable`.
    """
    path = Path(path)
    if os.path.lexists(path) and not path.is_dir():
        raise CannotWrite(f"cannot write into {path}: it is a file; name a folder")
    return path if path.is_dir() else check_writable(path)


def as_file_name(text: str) -> str:
    """A name as part of a file's.

    >>> as_file_name("folder:my/pictures")
    'folder-my-pictures'
    """
    return re.sub(r"[^\w.-]+", "-", text)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside the target, then move it into place: a reader never meets half a file. A link
    stays one: what it points to is written.

    Raises: CannotWrite if the disk or the folder refuses it; nothing is left behind.
    """
    path = check_writable(path).resolve()
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        raise CannotWrite(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file.

    Raises: CannotWrite if the disk or the folder refuses it.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path: str | Path, payload: Mapping[str, Any]) -> Path:
    """Write one result atomically, a row of numbers on one line. Tensors and arrays become lists; NaN and infinity are
    refused.

    Raises: BadResults for what JSON cannot hold, CannotWrite if the file cannot be written.
    """
    try:
        text = json.dumps(payload, indent=1, allow_nan=False, default=lambda value: value.tolist())
    except (ValueError, TypeError, AttributeError) as error:
        raise BadResults(f"{path} would hold what JSON cannot: {error}") from error
    text = ROW.sub(lambda row: " ".join(row[0].split()).replace("[ ", "[").replace(" ]", "]"), text)
    write_whole(Path(path), lambda beside: beside.write_text(text + "\n", encoding="utf-8"))
    return Path(path)


def read_json(path: str | Path, schema: str | None = None) -> dict[str, Any]:
    """Read one result; with `schema`, only if it says that it is one (`payload["schema"]`).

    Raises: BadResults if the file is missing, cut short, no result, or of another schema.
    """
    try:
        payload = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadResults(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise BadResults(f"{path} is cut short or not JSON ({error}): compute it again") from error
    if not isinstance(payload, dict):
        raise BadResults(f"{path} holds a {type(payload).__name__}, not a result")
    if schema is not None and payload.get("schema") != schema:
        raise BadResults(f"{path} has schema {payload.get('schema')!r}, not {schema!r}")
    return payload


R = TypeVar("R")
ADAPTERS: dict[type, TypeAdapter[Any]] = {}  # made when first used


@dataclass(frozen=True, repr=False)
class Result:
    """A result whose fields are its file's keys, beside the schema; fields are values of their own, or plain numbers.

    Reading is strict (pydantic): a key that is missing or unknown, a number that is a text, a value that is not finite
    are refused, and the error says where. A field that is None by default is left out of the file.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    schema: ClassVar[str]

    def __repr__(self) -> str:
        """One line: what it is of. The numbers are its fields."""
        facts = [getattr(self, name).shown for name in ("model", "task") if hasattr(getattr(self, name, None), "shown")]
        return f"{type(self).__name__}({' on '.join(facts)})"

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, whole or not at all."""
        content = _adapter(type(self)).dump_python(self, by_alias=True, exclude_defaults=True, warnings=False)
        return write_json(path, {"schema": self.schema, **content})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read one that `save` wrote.

        Raises: BadResults if the file is not such a result; the message names the first field that is wrong.
        """
        payload = read_json(path, cls.schema)
        del payload["schema"]
        try:
            return _adapter(cls).validate_json(json.dumps(payload))
        except ValidationError as error:
            raise BadResults(f"{path}: {_first(error)}") from None


def _adapter(kind: type[R]) -> TypeAdapter[R]:
    if kind not in ADAPTERS:
        ADAPTERS[kind] = TypeAdapter(kind)
    return ADAPTERS[kind]


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    wrong = error.errors(include_url=False)
    given, kind = wrong[0]["input"], wrong[0]["type"]
    where = ".".join(map(str, wrong[0]["loc"]))
    what = wrong[0]["msg"].removeprefix("Value error, ").replace("Unexpected keyword argument", "unknown key")
    what = what.replace("Field required", "this key is missing")
    if isinstance(given, str | int | float | None) and kind not in ("value_error", "unexpected_keyword_argument"):
        what += f", got {given!r:.40}"  # what is written there, if it is no more than a word or a number
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return f"{where}: {what}{more}" if where else f"{what}{more}"
