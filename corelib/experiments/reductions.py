"""At which rows, and how, should RAM be read where answers have several tokens? Rank by each way, move the gaze of the
heads on top, and see which ranking takes most answers along.

    found = compare_reductions(load("mini-s"), draw, ranking)      # test samples, and those that rank
    found.ways["max"].moved, found.ways["max"].difference          # its answers moved; minus those of the mean
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from corelib.analysis.stats import bootstrap_interval, estimate
from corelib.core.errors import BadInput, check_known
from corelib.core.head_scores import ordered
from corelib.core.heads import HeadSet, top_count
from corelib.core.progress import Progress, silent
from corelib.core.results import software
from corelib.core.sample_store import collect
from corelib.core.values import Accuracy, Estimate
from corelib.experiments.answer_sweep import check_pictures, compute_dtype
from corelib.experiments.reach import require_reach
from corelib.experiments.reading_reductions import MEAN, WAYS, read_reductions
from corelib.experiments.redirecting import Intervention, redirect_sweep
from corelib.experiments.reductions_result import Reductions, Way
from corelib.models.vlm import VLM
from corelib.tasks import Draw


def compare_reductions(
    vlm: VLM,
    draw: Draw,
    ranking: Draw,
    *,
    fraction: float = 0.05,
    ways: Sequence[str] = WAYS,
    batch_size: int = 32,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Reductions:
    """Rank the heads on `ranking` in each of the `ways` (and by the mean), and redirect each top `fraction` on `draw`:
    mass-preserving, at all rows after the pictures. Intervals resample pictures; differences are paired.

    Raises: BadInput if both draws share samples, if the task has no evidence or no questions with a rival, if some
    heads do not reach it, or if there are fewer than two pictures; UnknownName for a way that is none.
    """
    began = time.perf_counter()
    check_pictures(draw)
    if (repr(draw.task), draw.split, draw.seed) == (repr(ranking.task), ranking.split, ranking.seed):
        raise BadInput("heads are ranked on these samples: test them on another split or seed")
    require_reach(vlm, ranking, batch_size)
    names = list(dict.fromkeys((MEAN, *(check_known("way to read RAM", one, WAYS) for one in ways))))
    rooms = {name: None if store is None else Path(store) / name for name in ("ranked", "moved")}
    whole = ranking.samples + draw.samples
    tops = _tops(vlm, ranking, names, fraction, batch_size, rooms["ranked"], lambda done, _: progress(done, whole))
    plan = {str(number): Intervention(one) for number, one in enumerate(dict.fromkeys(tops.values()))}
    found = redirect_sweep(
        vlm, draw, plan, batch_size=batch_size, store=rooms["moved"],
        progress=lambda done, _: progress(ranking.samples + done, whole),
    )  # fmt: skip
    right, clusters = found["right"], np.array(draw.clusters)
    if len(set(clusters[right].tolist())) < 2:
        raise BadInput(f"{draw.task.name}: fewer than two pictures with a question that can be moved: ask for more")

    def interval(values: np.ndarray, mine: np.ndarray) -> Estimate:
        among = partial(bootstrap_interval, clusters=clusters[mine].tolist(), level=level, seed=draw.seed)
        return estimate(values[mine], among)

    column = {one.heads: found["moved"][:, number].astype(float) for number, one in enumerate(plan.values())}
    return Reductions(
        model=vlm.facts,
        task=draw.facts(questions=draw.questions, counted=int(right.sum())),
        ranked=ranking.facts(),
        fraction=fraction,
        level=level,
        base=Accuracy.of(interval(right.astype(float), found["paired"])),
        ways={
            name: Way(one, interval(column[one], right), interval(column[one] - column[tops[MEAN]], right))
            for name, one in tops.items()
        },
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def _tops(
    vlm: VLM,
    ranking: Draw,
    names: Sequence[str],
    fraction: float,
    batch_size: int,
    store: Path | None,
    progress: Progress,
) -> dict[str, HeadSet]:
    """The heads on top by each way."""

    def read(indices: list[int]) -> dict[str, Tensor]:
        return read_reductions(vlm, vlm.encode(ranking.take(indices)))

    fingerprint = {"model": vlm.sha256, "precision": compute_dtype(vlm), **ranking.fingerprint}
    kept = collect(read, ranking.samples, partial(ranking.batches, batch_size), fingerprint, store, progress)
    orders = {name: ordered(kept[name].double().mean(0).numpy()) for name in names}
    return {name: HeadSet(order[: top_count(fraction, len(order))]) for name, order in orders.items()}
