"""`corelib train`: a whole run, from a recipe to a folder that `corelib.load` reads.

folder/
    state.json, state-….safetensors    everything the next step depends on
    log.jsonl                          one line a step: loss, accuracy, rung of every task
    snapshots/000123.safetensors       weights at log-spaced steps since the language model was new, and at the end, in
                                       half precision
    formation.safetensors (.json)      scores of all heads at those steps, unless they had formed before the run began
    model/                             the finished model
"""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file

from corelib.core import model_folder
from corelib.core.claim import claimed
from corelib.core.errors import BadInput
from corelib.core.memory import check_device
from corelib.core.progress import Progress, silent
from corelib.core.results import check_folder
from corelib.core.weights import add_stage
from corelib.experiments.formation import log_scores, turning_points
from corelib.models.vlm import VLM
from corelib.tasks import RETRIEVING, UNTRAINED
from corelib.training.recipe import RECIPES, Recipe
from corelib.training.trainer import Trainer


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    until: int | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Path:
    """Train, or go on with, the run in `folder`.

    Returns the folder of the finished model, or of the run if it stopped at `until`. A run that was killed and goes
    on gives the same weights as one that was not.

    Raises: BadInput if `until` is below 1, there is no such device, or another command trains there; CannotWrite if
    `folder` is a file or cannot be made, BadResults if it holds a run of another recipe, or one that is damaged.
    """
    folder = Path(folder)
    if until is not None and until < 1:
        raise BadInput(f"until must be 1 or more, got {until}")
    check_folder(folder), check_device(device)
    with claimed(folder):
        return _train(recipe, folder, until, device, progress)


def _train(recipe: Recipe, folder: Path, until: int | None, device: str, progress: Progress) -> Path:
    trainer = Trainer(recipe, folder, device)
    trainer.run(lambda entry: progress(entry["step"] + 1, recipe.steps), until)
    if trainer.step < recipe.steps:
        return folder
    trainer.snapshot()
    trainer.model.cpu().train(False)
    finished = folder / "model"
    vlm = VLM(recipe.size, trainer.model, trainer.trainable.family, trainer.trainable.save(finished))
    if recipe.begins_with:
        return finished
    with trainer.trainable.eval_precision():
        domains = (*RETRIEVING, *(UNTRAINED if recipe.model_kind == "bridge" else ()))
        log_scores(folder / "snapshots", vlm, folder / "formation.safetensors", domains=domains)
    return finished


def ship(folder: str | Path, name: str) -> Path:
    """Copy a finished run into the package, as the bundled model `name`, with its recipe. Of a run that began from
    nothing also its head scores, and, where the recipe says so, the checkpoints before, at and after the phase
    transition (by accuracy in `scenes`): those of all models would take too much room."""
    folder, recipe = Path(folder), Recipe.load(name)
    target = model_folder.PACKAGE / recipe.model_kind / "weights" / name
    shutil.copytree(folder / "model", target, dirs_exist_ok=True)
    shutil.copy(RECIPES / f"{name}.toml", target / "recipe.toml")
    if recipe.begins_with:
        return target
    for end in (".safetensors", ".json"):
        shutil.copy((folder / "formation").with_suffix(end), target)
    if not recipe.study.get("stages", False):
        return target
    table = load_file(folder / "formation.safetensors")
    for point, snapshot in turning_points(table["scenes/accuracy"].float()).items():
        step = int(table["steps"][snapshot])
        add_stage(target, point, folder / "snapshots" / f"{step:06d}.safetensors", step)
    return target
