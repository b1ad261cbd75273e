"""Two cores, two processes: each computes the gradient of its share of every batch, on one thread.

A model this small spends much of a step on work that threads cannot share (drawing pictures, short operations), so
processes are nearly twice as fast as threads. All processes read the same parameters in shared memory; one of them
adds up the gradients and updates. The result depends on the number of processes only through the order of additions
and the mean over shares, so the recipe names it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from corelib.tasks import task
from corelib.training.batches import pack
from corelib.training.curriculum import Rung, Stage
from corelib.training.recipe import Recipe
from corelib.training.tower_supervision import label, state_facts
from corelib.training.trainable import Trainable, build_trainable

MOST_PICTURES = 1024  # in one batch of a task: batches of different steps share no picture
KEPT = "ordinary text"
Entries = dict[str, tuple[float, float]]  # task → (loss, accuracy)


def contribute(
    pupil: Trainable, recipe: Recipe, step: int, rungs: Mapping[str, Rung], stage: Stage, share: int
) -> Entries:
    """Add the gradient of one share (of `recipe.processes`) of step `step` to the model's `.grad`."""
    pupil.set_learning(stage.learns)
    entries = {}
    for name, rung in rungs.items():
        work, count = task(name, **rung.difficulty), max(1, round(rung.pictures * recipe.batch_scale))
        first = step * MOST_PICTURES
        drawn = [work.draw_picture("train", recipe.seed, first + k) for k in range(share, count, recipe.processes)]
        if not drawn:
            continue
        if stage.learns == "tower":
            pictures = [picture for picture, _ in drawn]
            levels = pupil.tower_tokens([image for picture in pictures for image in picture.images])
            holds = label(pictures, pupil.family.grid).to(pupil.device)
            loss, accuracy = state_facts(levels, holds, stage.quiet)
        else:
            batch = pack(pupil.processor, work, drawn, rung.questions, stage.lists).to(pupil.device)
            loss, accuracy = batch.loss(pupil.logits(batch), recipe.caption_weight)
        (loss / recipe.processes).backward()
        entries[name] = (loss.item(), accuracy)
    if stage.keeps:
        loss = pupil.kl_to_base(step, share, max(1, stage.keeps // recipe.processes))
        (loss / recipe.processes).backward()
        entries[KEPT] = (loss.item(), 0.0)
    return entries


def _work(pipe, recipe: Recipe, parameters: list[Tensor], gradients: list[Tensor], share: int) -> None:
    torch.set_num_threads(1)
    pupil = build_trainable(recipe)
    pupil.model.train()
    for mine, shared, gradient in zip(pupil.trained().values(), parameters, gradients, strict=True):
        mine.data, mine.grad = shared, gradient
    while (order := pipe.recv()) is not None:
        for gradient in gradients:
            gradient.zero_()
        try:
            pipe.send(contribute(pupil, recipe, *order, share))
        except Exception as error:  # the parent raises it
            pipe.send(error)
            raise


class Team:
    """The helper processes of a run; none of them if the recipe asks for one process."""

    def __init__(self, recipe: Recipe, pupil: Trainable) -> None:
        self.parameters, self.members = list(pupil.trained().values()), []
        if recipe.processes > 1:
            torch.set_num_threads(1)
        context = multiprocessing.get_context("spawn")
        for share in range(1, recipe.processes):
            parameters = [parameter.data.share_memory_() for parameter in self.parameters]
            gradients = [torch.zeros_like(parameter).share_memory_() for parameter in parameters]
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, recipe, parameters, gradients, share), daemon=True)
            process.start()
            self.members.append((process, here, gradients))

    def ask(self, step: int, rungs: Mapping[str, Rung], stage: Stage) -> None:
        for _, pipe, _ in self.members:
            pipe.send((step, dict(rungs), stage))

    def gather(self) -> list[Entries]:
        """Wait for the helpers, and add their gradients to the model's."""
        found = []
        for _, pipe, gradients in self.members:
            entries = pipe.recv()
            if isinstance(entries, Exception):
                raise entries
            found.append(entries)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                if not parameter.requires_grad:
                    continue
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)
        return found

    def dismiss(self) -> None:
        for process, pipe, _ in self.members:
            pipe.send(None)
            process.join()
        self.members = []
