"""Two cores, two processes: each computes the gradient of its share of every batch, on one thread.

A model this small spends much of a step on work that threads cannot share (drawing pictures, short operations), so
processes are nearly twice as fast as threads. All processes read the same parameters in shared memory; one of them
adds up the gradients and updates. The result depends on the number of processes only through the order of additions
and the mean over shares, so the recipe names it.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from corelib.tasks import Picture, Task, task
from corelib.training.batches import pack
from corelib.training.build_trainable import build_trainable
from corelib.training.curriculum import Rung, Stage
from corelib.training.recipe import Recipe
from corelib.training.tower_supervision import label, state_facts
from corelib.training.trainable import Trainable
from corelib.training.turns import scattered

MOST_PICTURES = 1024  # in one batch of a task: batches of different steps share no picture
KEPT = "ordinary text"
Entries = dict[str, tuple[float, float]]  # task → (loss, accuracy)
Order = tuple[int, Mapping[str, Rung], Stage]  # what a step is made of: its number, its rungs, the stage


def contribute(
    trainable: Trainable, recipe: Recipe, step: int, rungs: Mapping[str, Rung], stage: Stage, share: int
) -> Entries:
    """Add the gradient of one share (of `recipe.processes`) of step `step` to the model's `.grad`. Returns loss and
    accuracy of each task that has pictures in this share.

    Raises: BadInput if the stage keeps what a language model was, and the model was none.
    """
    trainable.set_learning(stage.learns)
    entries: Entries = {}
    for place, (name, rung) in enumerate(rungs.items()):
        work, count = task(name, **rung.difficulty), max(1, round(rung.pictures * recipe.batch_scale))
        first = step * MOST_PICTURES
        # a task with fewer pictures than there are shares begins where the one before it ended
        mine = share if count >= recipe.processes else (share - place) % recipe.processes
        drawn = [work.draw_picture("train", recipe.seed, first + k) for k in range(mine, count, recipe.processes)]
        if not drawn:
            continue
        if stage.learns == "tower":
            pictures = [picture for picture, _ in drawn]
            levels = trainable.tower_tokens([image for picture in pictures for image in picture.images])
            holds = label(pictures, trainable.family.grid).to(trainable.device)
            loss, accuracy = state_facts(levels, holds, stage.quiet)
        elif stage.alone:
            entries[name] = _read_alone(trainable, recipe, work, drawn, rung, stage, [recipe.seed, step, share])
            continue
        else:
            batch = pack(trainable.processor, work, drawn, rung.questions, stage.lists).to(trainable.device)
            loss, accuracy = batch.loss(trainable.logits(batch), recipe.caption_weight)
        torch.autograd.backward(loss / recipe.processes)
        entries[name] = (loss.item(), accuracy)
    if stage.keeps:
        loss = trainable.kl_to_base(step, share, max(1, stage.keeps // recipe.processes))
        torch.autograd.backward(loss / recipe.processes)
        entries[KEPT] = (loss.item(), 0.0)
    return entries


def _read_alone(
    trainable: Trainable,
    recipe: Recipe,
    work: Task,
    drawn: list[tuple[Picture, np.random.Generator]],
    rung: Rung,
    stage: Stage,
    seed: list[int],
) -> tuple[float, float]:
    """Add the gradient of pictures of which each is a batch of its own. Returns mean loss and accuracy."""
    rng, found = np.random.default_rng(seed), []
    for one in drawn:
        batch = pack(trainable.processor, work, [one], rung.questions, stage.lists).to(trainable.device)
        gaps = scattered(batch.labels[0] == trainable.model.config.image_token_id, batch.turns[0], stage.reach, rng)
        loss, accuracy = batch.loss(trainable.logits_alone(batch, gaps), recipe.caption_weight)
        torch.autograd.backward(loss / len(drawn) / recipe.processes)
        found.append((loss.item(), accuracy))
    losses, accuracies = zip(*found, strict=True)
    return float(np.mean(losses)), float(np.mean(accuracies))


def _work(pipe: Connection, recipe: Recipe, parameters: list[Tensor], gradients: list[Tensor], share: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the run, which ends its helpers
    torch.set_num_threads(1)
    trainable = build_trainable(recipe)
    trainable.model.train()
    for mine, shared, gradient in zip(trainable.trained().values(), parameters, gradients, strict=True):
        mine.data, mine.grad = shared, gradient
    order: Order | None
    while (order := pipe.recv()) is not None:
        step, rungs, stage = order
        for gradient in gradients:
            gradient.zero_()
        try:
            pipe.send(contribute(trainable, recipe, step, rungs, stage, share))
        except Exception as error:  # the parent raises it
            pipe.send(error)
            raise


@dataclass(frozen=True)
class _Member:
    """A helper process, the way to it, and the gradients that it writes."""

    process: BaseProcess
    pipe: Connection
    gradients: list[Tensor]


def _shared(tensor: Tensor) -> Tensor:
    """The tensor itself, moved to memory that all processes share."""
    moved: Tensor = tensor.share_memory_()
    return moved


class Team:
    """The helper processes of a run; none of them if the recipe asks for one process."""

    def __init__(self, recipe: Recipe, trainable: Trainable) -> None:
        self.parameters = list(trainable.trained().values())
        self.members: list[_Member] = []
        if recipe.processes > 1:
            torch.set_num_threads(1)
        context = multiprocessing.get_context("spawn")
        for share in range(1, recipe.processes):
            parameters = [_shared(parameter.data) for parameter in self.parameters]
            gradients = [_shared(torch.zeros_like(parameter)) for parameter in parameters]
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, recipe, parameters, gradients, share), daemon=True)
            process.start()
            self.members.append(_Member(process, here, gradients))

    def ask(self, step: int, rungs: Mapping[str, Rung], stage: Stage) -> None:
        """Let every helper begin with its share of a step."""
        for member in self.members:
            member.pipe.send((step, dict(rungs), stage))

    def gather(self) -> list[Entries]:
        """Wait for the helpers, and add their gradients to the model's. Returns what each of them computed.

        Raises: what a helper raised.
        """
        found: list[Entries] = []
        for member in self.members:
            entries: Entries | Exception = member.pipe.recv()
            if isinstance(entries, Exception):
                raise entries
            found.append(entries)
            for parameter, gradient in zip(self.parameters, member.gradients, strict=True):
                if not parameter.requires_grad:
                    continue
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)
        return found

    def dismiss(self) -> None:
        """End the helpers."""
        for member in self.members:
            member.pipe.send(None)
            member.process.join()
        self.members = []
