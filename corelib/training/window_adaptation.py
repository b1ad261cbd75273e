"""Does it matter which heads stay dense, if the others may learn to live with a window?

A model for long sequences is trained a little further with few heads dense and all others short-sighted, as it will
run. DuoAttention trains gates to find the heads; here the question is what training does once they are chosen:

    core       the first heads by RAM
    matched    as many others of the same layers and key/value groups
    random     as many others, drawn blindly

Every seed draws other pictures, and other matched and random heads.

Source: DuoAttention, Xiao et al. (2024), arXiv:2410.10819. The arms are ours.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from corelib.analysis.controls import random_sets
from corelib.analysis.kv_controls import kv_matched
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import software
from corelib.core.values import TaskFacts, WindowFacts
from corelib.experiments.dense_choices import compare_choices
from corelib.experiments.windowed_run import WindowAdaptation, Windowed, WindowedRun
from corelib.models.vlm import VLM
from corelib.tasks import task
from corelib.training.recipe import Recipe, short_run
from corelib.training.stages import WINDOWED
from corelib.training.trainer import Trainer

ARMS = ("core", "matched", "random")
STEPS = 150
QUESTIONS = 24  # about each row of pictures


def windowed(seed: int, dense: HeadSet, width: int, steps: int, begins_with: str) -> Recipe:
    """The recipe of one run."""
    arm = {"curriculum": "windowed", "begins_with": begins_with, "dense": str(dense), "window": width}
    return short_run(seed, steps, steps // 3, size="mini-s", **arm)


def adapt_to_windows(
    vlm: VLM,
    core: HeadSet,
    *,
    width: int = 64,
    seed: int = 1,
    seeds: int = 3,
    steps: int = STEPS,
    samples: int = 480,
    store: str | Path,
    progress: Progress = silent,
) -> WindowAdaptation:
    """Train `vlm` a little further with the heads of each arm dense; test before and after, on the same questions.

    Runs lie in the folder `store`, where a stopped one goes on.

    Raises: BadInput if the model is not a bundled one for long sequences, or if there are too few matched sets.
    """
    began = time.perf_counter()
    if not vlm.study.long_only:
        raise BadInput(f"{vlm.name} was not trained on long sequences: give mini-s-long")
    size = (vlm.num_layers, vlm.num_heads)
    matched = kv_matched(core, *size, vlm.num_kv_heads, draws=seeds)
    if len(matched) < seeds:
        raise BadInput(f"{len(matched)} matched sets for {seeds} seeds: give fewer seeds, or fewer heads")
    drawn = {"core": [core] * seeds, "matched": matched, "random": random_sets(core, *size, draws=seeds)}
    runs: list[WindowedRun] = []
    whole = seeds * len(ARMS) * steps
    for arm in ARMS:
        for number, heads in enumerate(drawn[arm]):
            folder, done = Path(store) / f"{arm}-{seed + number}", len(runs) * steps
            tested = folder / "tested.json"
            if not tested.exists():
                before = _tested(vlm, heads, width, samples, seed)
                trainer = Trainer(windowed(seed + number, heads, width, steps, vlm.name), folder)
                trainer.run(partial(_report, progress, done, whole))
                trainer.model.train(False)
                adapted = VLM(vlm.name, trainer.model, trainer.trainable.family, study=vlm.study)
                after = _tested(adapted, heads, width, samples, seed)
                WindowedRun(arm, seed + number, heads, before, after).save(tested)
            runs.append(WindowedRun.load(tested))
    return WindowAdaptation(
        model=vlm.facts,
        task=TaskFacts(" and ".join(WINDOWED[0].ladders), "test", seed, samples, questions=QUESTIONS),
        window=WindowFacts(width, 4),
        steps=steps,
        level=0.95,
        runs=tuple(runs),
        software=software(precision="float32"),
        seconds=round(time.perf_counter() - began, 2),
    )


def _report(progress: Progress, done: int, whole: int, entry: Mapping[str, Any]) -> None:
    progress(done + entry["step"] + 1, whole)


def _tested(vlm: VLM, heads: HeadSet, width: int, samples: int, seed: int) -> dict[str, Windowed]:
    """Accuracy of a model with these heads dense, with all and with none, in each task."""
    found = {}
    for name, ladder in WINDOWED[0].ladders.items():
        draw = task(name, **ladder[0].difficulty).draw("test", samples=samples, seed=seed, questions=QUESTIONS)
        one = compare_choices(vlm, draw, {"dense": heads}, width=width)
        found[name] = Windowed(one.base, one.choices[0].kept, one.none)
    return found
