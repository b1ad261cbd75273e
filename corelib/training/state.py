"""Where a run stands, on disk: everything that its next step depends on, and its log.

folder/state.json, state-000120.safetensors      the step, the curriculum, weights and the optimiser's moments
folder/log.jsonl                                 one line a step
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from corelib.core.checked_tensors import read_tensors, write_tensors
from corelib.core.errors import BadInput, BadResults
from corelib.core.results import Result, append_line
from corelib.core.values import Machine

STATE, LOG = "state.json", "log.jsonl"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW remembers of a parameter


@dataclass(frozen=True, repr=False)
class RunState(Result):
    """Where a run stands."""

    schema: ClassVar[str] = "corelib/training-state/1"

    recipe: dict[str, Any]
    step: int
    began: int  # the step at which the language model was new
    seconds: float
    machine: Machine
    stage: int
    rung: dict[str, int]
    running: dict[str, float]
    taken: int

    @property
    def position(self) -> dict[str, Any]:
        """In the curriculum."""
        return {name: getattr(self, name) for name in ("stage", "rung", "running", "taken")}

    def write(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Put state and tensors beside the old ones, then swap: a kill at any moment leaves one good state.

        Raises: CannotWrite if the disk refuses it; the old state stays.
        """
        path = _tensors_of(folder, self.step)
        write_tensors(path, tensors)
        self.save(folder / STATE)
        for old in folder.glob("state-*.safetensors"):
            if old != path:
                old.unlink()

    @classmethod
    def read(cls, folder: Path) -> tuple[RunState, dict[str, Tensor]]:
        """What `write` wrote.

        Raises: BadResults if a part is missing, cut short or damaged.
        """
        state = cls.load(folder / STATE)
        return state, read_tensors(_tensors_of(folder, state.step))[0]


def _tensors_of(folder: Path, step: int) -> Path:
    return folder / f"state-{step:06d}.safetensors"


def moments_of(name: str, tensors: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
    """The optimiser's moments of one parameter; none of one that is new.

    Raises: BadResults if they or the parameter are not all there, in its shape.
    """
    shapes: dict[str, tuple[int, ...]] = {f"model.{name}": tuple(like.shape)}
    known = [key for key in MOMENTS if f"optimiser.{key}.{name}" in tensors]
    if known:
        shapes |= {f"optimiser.{key}.{name}": tuple(like.shape) if key != "step" else () for key in MOMENTS}
    for key, shape in shapes.items():
        if key not in tensors or tensors[key].shape != shape:
            raise BadResults(f"the state of the run has no {key} of shape {list(shape)}: begin in another folder")
    return {key: tensors[f"optimiser.{key}.{name}"].clone() for key in known}


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The log of a run, one entry a step. A last line that was cut short, when the run was killed, is none.

    Raises: BadInput if the folder has no log, or one that holds something else.
    """
    path = Path(folder) / LOG
    if not path.exists():
        raise BadInput(f"{folder} is not a training run: it has no {LOG}")
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    try:
        entries = [json.loads(line) for line in lines]
        if not all(isinstance(entry["step"], int) for entry in entries):
            raise TypeError("a step is no number")
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} is no log of a run ({error}): begin in another folder") from None
    return entries


def write_log(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add the entry of a step.

    Raises: CannotWrite if the disk refuses it.
    """
    append_line(folder / LOG, json.dumps(entry))
