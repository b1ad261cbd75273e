"""The bundled models, and folders of such models that `corelib train` wrote: from a folder to a model and its family.

load("mini-s")                          # from corelib.models.load, which calls this
load("runs/mini-s", checkpoint="before")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from transformers import PreTrainedConfig, PreTrainedModel

from corelib.bridge import checkpoint as bridge_checkpoint
from corelib.bridge.processing import BridgeProcessor
from corelib.core import model_folder
from corelib.core.errors import BadInput, UnsupportedArchitecture
from corelib.core.model_folder import LANGUAGE, Study
from corelib.families.bundled import Bridge, Bundled, Mini
from corelib.mini import checkpoint as mini_checkpoint
from corelib.mini.processing import MiniProcessor

P = TypeVar("P", MiniProcessor, BridgeProcessor)


@dataclass(frozen=True)
class Room(Generic[P]):
    """How the models of one room of the package are loaded."""

    load: Callable[[Path, str | None], tuple[PreTrainedModel, P, str]]
    load_untrained: Callable[[Path], tuple[PreTrainedModel, P]]
    family: Callable[[PreTrainedConfig, P], Bundled]

    def open(self, folder: Path, checkpoint: str | None) -> tuple[PreTrainedModel, Bundled, str]:
        """With its trained weights: the model, its family, the checksum of its weights."""
        model, processor, digest = self.load(folder, checkpoint)
        return model, self.family(model.config, processor), digest

    def open_untrained(self, folder: Path) -> tuple[PreTrainedModel, Bundled]:
        """With random weights."""
        model, processor = self.load_untrained(folder)
        return model, self.family(model.config, processor)


ROOMS: dict[str, Room[MiniProcessor] | Room[BridgeProcessor]] = {  # by config.json's model_type
    "qwen3_vl": Room(mini_checkpoint.load, mini_checkpoint.load_untrained, Mini),
    "smolvlm": Room(bridge_checkpoint.load, bridge_checkpoint.load_untrained, Bridge),
}


def open_bundled(
    name_or_path: str | Path, checkpoint: str | None = None, untrained: bool = False
) -> tuple[str, PreTrainedModel, Bundled, str, Study]:
    """A bundled model by its name or folder: its name, the model, its family, the checksum of its weights, and what the
    book does with it.

    Raises: UnknownName (no such model or checkpoint), BadInput (options that exclude each other), BadWeights (damaged
    or missing weights), UnsupportedArchitecture (the folder holds another kind of model).
    """
    if untrained and checkpoint is not None:
        raise BadInput(f"untrained=True and checkpoint={checkpoint!r}: random weights have no stages; give one of both")
    if str(name_or_path) == LANGUAGE and checkpoint is None and not untrained:
        alone, processor, digest = bridge_checkpoint.load_language()
        return LANGUAGE, alone, Bridge(alone.config, processor), digest, Study()
    folder = model_folder.find_model(name_or_path)
    kind = model_folder.model_type(folder)
    if kind not in ROOMS:
        raise UnsupportedArchitecture(f"{folder} holds a {kind!r} model; supported: {', '.join(ROOMS)}")
    if untrained:
        return f"{folder.name} (untrained)", *ROOMS[kind].open_untrained(folder), "", Study()
    name = folder.name if checkpoint is None else f"{folder.name} ({checkpoint})"
    return name, *ROOMS[kind].open(folder, checkpoint), Study.of(folder)
