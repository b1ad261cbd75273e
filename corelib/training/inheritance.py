"""Are retrieval heads inherited from the language model, or made? The same short adaptation, with other heads that may
see the picture.

Behind the bridge's finished tower and connector stands the language model as it was before it saw; new adapters learn
for a few hundred steps to find things in pictures and on pages (`stages.py`, *adapting*). Every seed draws other
pictures and begins with other adapters, and in each of the arms other heads see:

    free                all heads
    without CoRe        all but the bridge's CoRe heads
    without matched     all but a set of as many heads of the same layers and key/value groups
    CoRe alone          the CoRe heads and no other
    matched alone       the matched set and no other

A head that does not see never sees: at rows of text, in training and in the test, it is kept from the pictures' tokens.
If the heads that the language model brings are needed, their loss costs more than that of matched ones; if any heads
can be made, others take over.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from corelib.analysis.kv_controls import kv_matched
from corelib.analysis.stats import bootstrap_interval, estimate
from corelib.attention.record import record, row_index
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import software
from corelib.core.values import Accuracy, Table, TaskFacts
from corelib.experiments.inheritance_result import AdaptedRun, Inheritance
from corelib.metrics.ram import ram, reduce_rows
from corelib.models.vlm import VLM
from corelib.tasks import Draw, task
from corelib.training.recipe import Recipe, short_run
from corelib.training.stages import ADAPTING
from corelib.training.state import read_log
from corelib.training.trainable import unsighted
from corelib.training.trainer import Trainer

ARMS = ("free", "without CoRe", "without matched", "CoRe alone", "matched alone")
STEPS = 200
EVERY = 10  # steps: the curve has one number for so many


def unseeing(arm: str, core: HeadSet, matched: HeadSet, every: HeadSet) -> HeadSet:
    """The heads that never see a picture, in an arm.

    Raises: UnknownName for an arm that is none.

    >>> every, core = HeadSet.all(1, 4), HeadSet("L0H1")
    >>> str(unseeing("CoRe alone", core, HeadSet("L0H3"), every))
    'L0H0 L0H2 L0H3'
    """
    hidden = dict(zip(ARMS, (HeadSet(), core, matched, every - core, every - matched), strict=True))
    return hidden[check_known("arm", arm, ARMS)]


def adaptation(seed: int, hidden: HeadSet, steps: int = STEPS) -> Recipe:
    """The recipe of one run."""
    arm = {"curriculum": "adapting", "begins_with": "bridge", "renewed": True, "unseeing": str(hidden)}
    return short_run(seed, steps, steps // 5, size="bridge", **arm)


def measure_inheritance(
    vlm: VLM,
    core: HeadSet,
    *,
    seed: int = 1,
    seeds: int = 3,
    arms: tuple[str, ...] = ARMS,
    steps: int = STEPS,
    samples: int = 256,
    store: str | Path,
    progress: Progress = silent,
) -> Inheritance:
    """Adapt the language model under `vlm`, the bridge, anew: every arm with every seed; then test the runs on `test`
    and rank their heads on `select`. `core` are the heads whose part is asked for.

    Runs have the seeds from `seed` on. A run takes some ten minutes on one core; runs lie in the folder `store`, where
    a stopped one goes on, and another process may make other `arms`.

    Raises: BadInput for a model that is not the bridge; NoControl if no matched set exists.
    """
    began = time.perf_counter()
    if vlm.name != "bridge":
        raise BadInput(f"{vlm.name} has no language model that was there before it: give the bridge")
    every = HeadSet.all(vlm.num_layers, vlm.num_heads)
    matched = kv_matched(core, vlm.num_layers, vlm.num_heads, vlm.num_kv_heads, draws=seeds)
    if len(matched) < seeds:
        raise BadInput(f"{len(matched)} matched sets for {seeds} seeds: give fewer seeds, or fewer heads")
    runs: list[AdaptedRun] = []
    whole = seeds * len(arms) * steps
    for arm in arms:
        for number, other in enumerate(matched):
            hidden = unseeing(arm, core, other, every)
            done = len(runs) * steps
            folder = Path(store) / f"{arm.replace(' ', '-')}-{seed + number}"
            tested = folder / "tested.json"
            if not tested.exists():
                trainer = Trainer(adaptation(seed + number, hidden, steps), folder)
                trainer.run(partial(_report, progress, done, whole))
                tested_run(trainer, folder, arm, other, hidden, samples).save(tested)
            runs.append(AdaptedRun.load(tested))
    return Inheritance(
        model=vlm.facts,
        steps=steps,
        tasks={name: dict(ladder[0].difficulty) for name, ladder in ADAPTING[0].ladders.items()},
        task=TaskFacts(" and ".join(ADAPTING[0].ladders), "test", seed, samples, questions=4),
        level=0.95,
        core=core,
        runs=tuple(runs),
        software=software(precision="bfloat16"),
        seconds=round(time.perf_counter() - began, 2),
    )


def _report(progress: Progress, done: int, whole: int, entry: dict[str, Any]) -> None:
    progress(done + entry["step"] + 1, whole)


def tested_run(trainer: Trainer, folder: Path, arm: str, matched: HeadSet, hidden: HeadSet, samples: int) -> AdaptedRun:
    """What a finished run can do, and which of its heads look; measured as it was trained, with the same heads kept
    from the pictures."""
    trainable = trainer.trainable
    vlm = VLM("bridge", trainer.model, trainable.family)
    trainer.model.train(False)
    accuracy, scores, anywhere = {}, {}, {}
    with trainable.eval_precision():
        for name, ladder in ADAPTING[0].ladders.items():
            work = task(name, **ladder[0].difficulty)
            test = work.draw("test", samples=samples, seed=trainer.recipe.seed, questions=4)
            correct, *_ = look(vlm, test, hidden)
            interval = partial(bootstrap_interval, clusters=test.clusters)
            accuracy[name] = Accuracy.of(estimate(correct, interval))
            _, scores[name], anywhere[name] = look(vlm, work.draw("select", samples=96, seed=0), hidden)
    return AdaptedRun(
        arm=arm,
        seed=trainer.recipe.seed,
        matched=matched,
        curve=learning_curve(folder),
        accuracy=accuracy,
        ram={name: as_table(table) for name, table in scores.items()},
        anywhere={name: as_table(table) for name, table in anywhere.items()},
    )


def as_table(values: Float[np.ndarray, "layer head"]) -> Table:
    """Scores of all heads, to four digits."""
    return tuple(tuple(round(float(value), 4) for value in row) for row in values)


Looks = Float[np.ndarray, "layer head"]


@torch.no_grad()
def look(vlm: VLM, draw: Draw, hidden: HeadSet) -> tuple[Float[np.ndarray, " sample"], Looks, Looks]:
    """Which samples are answered rightly, while `hidden` heads see no picture; and the mean RAM of all heads: at the
    rows that predict the answer, and at the best row of the question and the answer. A model may fetch at the word
    that ends the question, and say later what it found."""
    size = (vlm.num_layers, vlm.num_heads)
    correct, scores, anywhere = np.zeros(draw.samples), np.zeros(size), np.zeros(size)
    for indices in draw.batches(32):
        batch = vlm.encode(draw.take(indices))
        rows, after, evidence = batch.rows("answer"), batch.after_image, batch.evidence

        def mass(call: object, attention: Tensor, evidence: Tensor = evidence) -> Tensor:
            return ram(attention, evidence)

        with (
            unsighted(vlm.model, batch.visual, hidden),
            record(vlm.model, rows, reduce=mass) as answering,
            record(vlm.model, after, reduce=mass) as all_of_them,
        ):
            correct[indices] = vlm.answer(batch).correct.double().cpu().numpy()
        real, also = row_index(rows)[1], row_index(after)[1]
        scores += np.stack([reduce_rows(one, real).double().sum(0).cpu().numpy() for one in answering.stack()])
        anywhere += np.stack(
            [reduce_rows(one, also, "max").double().sum(0).cpu().numpy() for one in all_of_them.stack()]
        )
    return correct, scores / draw.samples, anywhere / draw.samples


def learning_curve(folder: Path) -> dict[str, tuple[float, ...]]:
    """The share of right answers in training, task by task: a mean over every `EVERY` steps. Every picture is new when
    it is drawn."""
    log = read_log(folder)
    return {
        name: tuple(
            round(float(np.mean([entry[name]["accuracy"] for entry in log[at : at + EVERY] if name in entry])), 4)
            for at in range(0, len(log), EVERY)
        )
        for name in ADAPTING[0].ladders
    }
