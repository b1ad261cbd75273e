"""The training loop of the bundled models: curriculum, exact resume, snapshots.

A run lives in a folder. `state.safetensors` + `state.json` hold everything the next step depends on, and every
batch depends only on (recipe, step), so a run that was killed goes on as if nothing had happened.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from corelib.core.errors import BadResults, check_known
from corelib.core.memory import check_device
from corelib.core.results import machine, write_whole
from corelib.core.weights import to_half
from corelib.experiments.evidence import measure_accuracy
from corelib.models.vlm import VLM
from corelib.tasks import TASKS, task
from corelib.training.build_trainable import build_trainable
from corelib.training.curriculum import Curriculum
from corelib.training.parallel import KEPT, Team, contribute
from corelib.training.recipe import SNAPSHOTS, Recipe
from corelib.training.stages import CURRICULA
from corelib.training.state import LOG, STATE, RunState, moments_of, read_log, write_log


class Trainer:
    """One run: `Trainer(recipe, folder).run()` starts it or goes on with it.

    Raises: UnknownName for a curriculum that does not exist, BadInput for a device that is not there, BadResults if the
        folder holds a run of another recipe, or one that is damaged.
    """

    def __init__(self, recipe: Recipe, folder: str | Path, device: str = "cpu") -> None:
        self.recipe, self.folder, self.device = recipe, Path(folder), device
        check_known("curriculum", recipe.curriculum_name, CURRICULA)
        check_device(device)
        self.trainable = build_trainable(recipe)
        self.model = self.trainable.model
        nn.Module.to(self.model, device)  # the same as `model.to`, whose types transformers hides
        self.trained = dict(self.trainable.trained())
        self.optimiser = torch.optim.AdamW(
            self.trained.values(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        )
        self.curriculum = Curriculum(recipe.promote_at, stages=CURRICULA[recipe.curriculum_name])
        self.step, self.seconds = 0, 0.0
        self.began = 0  # the step at which the language model was new
        self.team: Team | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / STATE).exists():
            self.restore()
        self.forget_later_steps()

    def advance(self) -> dict[str, Any]:
        """One step: a batch of every task, one update. Returns what the log keeps."""
        if self.team is None:
            self.team = Team(self.recipe, self.trainable)
        rng = np.random.default_rng([self.recipe.seed, self.step])
        chosen = self.curriculum.choose(rng)
        rungs = {name: self.curriculum.ladders[name][rung] for name, rung in chosen.items()}
        self.model.train()
        order = (self.step, rungs, self.curriculum.now)
        self.team.ask(*order)
        shares = [contribute(self.trainable, self.recipe, *order, 0), *self.team.gather()]
        entry: dict[str, Any] = {"step": self.step, "stage": self.curriculum.stage}
        for name, rung in chosen.items():
            parts = [share[name] for share in shares if name in share]
            loss, accuracy = (sum(part[k] for part in parts) / len(parts) for k in (0, 1))
            self.curriculum.learn(name, rung, accuracy)
            entry[name] = {"loss": round(loss, 4), "accuracy": round(accuracy, 4), "rung": rung}
        for part in (share[KEPT] for share in shares if KEPT in share):
            entry[KEPT] = round(entry.get(KEPT, 0.0) + part[0] / len(shares), 4)
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), self.recipe.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.began) * self.curriculum.lr_factor
        self.optimiser.step()
        torch.clear_autocast_cache()  # inside another autocast context, weights that were cast before would be kept
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        stage = self.curriculum.advance()
        if stage is not None and stage.fresh:
            self.renew_language(stage.wording)
        return {**entry, "norm": round(norm.item(), 3)}

    def renew_language(self, wording: bool = False) -> None:
        """An untrained language model, or adapter, behind the tower that there is; the optimiser and the warm-up begin
        anew. Snapshots of the old one go: its heads are gone too."""
        self.trainable.renew_language(wording)
        self.optimiser.state.clear()
        self.began = self.step
        shutil.rmtree(self.folder / "snapshots", ignore_errors=True)

    def evaluate(self) -> dict[str, float]:
        """Accuracy on the `validate` split at the default difficulty, one question a picture."""
        vlm = VLM(self.recipe.size, self.model, self.trainable.family)
        self.model.train(False)
        count = self.recipe.evaluate_samples
        with self.trainable.eval_precision():
            return {name: measure_accuracy(vlm, task(name).draw("validate", samples=count)).accuracy for name in TASKS}

    def run(self, report: Callable[[dict[str, Any]], None] = lambda entry: None, until: int | None = None) -> None:
        """Train to the end of the recipe (or to step `until`); `report` gets one entry a step."""
        stop = min(self.recipe.steps, until or self.recipe.steps)
        if self.step == 0:
            self.snapshot()
        while self.step < stop:
            began = time.perf_counter()
            entry = self.advance()
            due = self.step % self.recipe.evaluate_every == 0 or self.step == stop
            if due and self.recipe.evaluate_samples and self.curriculum.now.learns != "tower":  # which answers nothing
                entry["validate"] = self.evaluate()
            self.seconds += time.perf_counter() - began
            entry["seconds"] = round(self.seconds, 1)
            write_log(self.folder, entry)
            report(entry)
            if self.step - self.began in SNAPSHOTS:
                self.snapshot()
            if self.step % self.recipe.checkpoint_every == 0 or self.step == stop:
                self.save()
        if self.team is not None:
            self.team.dismiss()
            self.team = None

    def snapshot(self) -> None:
        """The weights of this step in half precision, for the chapter on how heads form."""
        (self.folder / "snapshots").mkdir(exist_ok=True)
        path = self.folder / "snapshots" / f"{self.step:06d}.safetensors"
        write_whole(path, lambda beside: save_file(to_half(self.trained), beside))

    def save(self) -> None:
        """Write the whole state. Raises: CannotWrite if the disk refuses it; the old state stays."""
        names = {id(parameter): name for name, parameter in self.trained.items()}
        tensors = {f"model.{name}": parameter.detach() for name, parameter in self.trained.items()}
        for parameter, state in self.optimiser.state.items():
            for key, value in state.items():
                tensors[f"optimiser.{key}.{names[id(parameter)]}"] = torch.as_tensor(value)
        RunState(
            recipe=self.recipe.as_dict(),
            step=self.step,
            began=self.began,
            seconds=self.seconds,
            machine={**machine(), "device": self.device},
            stage=self.curriculum.stage,
            rung=self.curriculum.rung,
            running=self.curriculum.running,
            taken=self.curriculum.taken,
        ).write(self.folder, tensors)

    def restore(self) -> None:
        """Go on where the folder's state stands.

        Raises: BadResults if another recipe began it, or if it is damaged; BadInput if it stands nowhere in the
            curriculum.
        """
        state, tensors = RunState.read(self.folder)
        free = {"study", "processes", "steps", "decay_steps", "checkpoint_every", "evaluate_every", "evaluate_samples"}
        for key, value in self.recipe.as_dict().items():
            if key not in free and state.recipe.get(key, value) != value:
                raise BadResults(
                    f"{self.folder} holds a run with {key}={state.recipe[key]}, the recipe says {value}: "
                    "name another folder, or use the recipe that began the run"
                )
        for name, parameter in self.trained.items():
            moments = moments_of(name, tensors, parameter)
            parameter.data.copy_(tensors[f"model.{name}"])
            if moments:  # a new stage has no history
                self.optimiser.state[parameter] = moments
        self.step, self.began, self.seconds = state.step, state.began, state.seconds
        stages = CURRICULA[self.recipe.curriculum_name]
        self.curriculum = Curriculum(self.recipe.promote_at, stages=stages, **state.position)

    def forget_later_steps(self) -> None:
        """Drop the log's lines of steps after the last checkpoint: they are done again."""
        if (self.folder / LOG).exists():
            kept = [json.dumps(entry) + "\n" for entry in read_log(self.folder) if entry["step"] < self.step]
            write_whole(self.folder / LOG, lambda beside: beside.write_text("".join(kept), encoding="utf-8"))
