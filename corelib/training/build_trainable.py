"""The model of a recipe, ready to be trained."""

from __future__ import annotations

from corelib.training.recipe import Recipe
from corelib.training.trainable import Trainable
from corelib.training.trainable_bridge import TrainableBridge
from corelib.training.trainable_mini import TrainableMini


def build_trainable(recipe: Recipe) -> Trainable:
    """The model of a recipe, as it is before the first step."""
    if recipe.model_kind == "bridge":
        return TrainableBridge(recipe.seed, recipe.begins_with, recipe.renewed, recipe.unseeing, recipe.precision)
    return TrainableMini(recipe.size, recipe.seed, recipe.fast, recipe.begins_with, recipe.dense, recipe.window)
