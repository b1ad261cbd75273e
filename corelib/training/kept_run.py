"""A run that is not finished, kept small: what it changed of the model that it began with, in half precision.

    keep("runs/bridge-long", "unfinished/bridge-long")       # a few megabytes, to be committed
    unfold("unfinished/bridge-long", "runs/bridge-long")     # `corelib train` goes on from there

The optimiser's moments are not kept, and weights are rounded: the run goes on from the same place, and not exactly as
if it had not stopped.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from corelib.core import model_folder
from corelib.core.errors import BadInput, BadResults
from corelib.core.results import write_whole
from corelib.training.state import LOG, STATE, RunState

CHANGED = "changed.safetensors"


def keep(folder: str | Path, target: str | Path) -> Path:
    """Write what is needed to go on with the run in `folder`. Returns the folder `target`.

    Raises: BadInput if the run began from nothing, BadResults if there is no run.
    """
    folder, target = Path(folder), Path(target)
    state, now = RunState.read(folder)
    before = _begins_with(state)
    mine = {name.removeprefix("model."): value.half() for name, value in now.items() if name.startswith("model.")}
    changed = {name: value for name, value in mine.items() if not torch.equal(value, before[name].half())}
    target.mkdir(parents=True, exist_ok=True)
    write_whole(target / CHANGED, lambda beside: save_file(changed, beside))
    state.save(target / STATE)
    shutil.copy(folder / LOG, target / LOG)
    return target


def unfold(kept: str | Path, folder: str | Path) -> Path:
    """Make the run folder of a kept run. Returns the folder.

    Raises: BadInput if there is a run in it already, BadResults if nothing is kept there.
    """
    kept, folder = Path(kept), Path(folder)
    state = RunState.load(kept / STATE)
    if (folder / STATE).exists():
        raise BadInput(f"{folder} holds a run: name another folder, or go on with that one")
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**_begins_with(state), **load_file(kept / CHANGED)}
    tensors = {f"model.{name}": value.float().contiguous() for name, value in whole.items()}
    shutil.copy(kept / LOG, folder / LOG)
    state.write(folder, tensors)  # last: now there is a run
    return folder


def _begins_with(state: RunState) -> dict[str, torch.Tensor]:
    """The weights that the run began with."""
    name = state.recipe.get("begins_with", "")
    if not name:
        raise BadInput("a run that began from nothing has changed everything: keep its folder as it is")
    weights = model_folder.bundled_folder(name) / model_folder.WEIGHTS
    if not weights.is_file():
        raise BadResults(f"{weights} is missing: the run began with it")
    return load_file(weights)
