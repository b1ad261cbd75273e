"""Rankings of heads for one purpose: which should stay dense? By what they look at, by what they write, by what a
window does to them, and by trying.

    named = rank_for_density(vlm, ranked, tried, window)
    compare_choices(vlm, draw, named, width=window.width)      # on other samples than both

All choices have the same budget of heads but for two, whose names say so: fewer heads, and whole key/value groups.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from corelib.attention.interface import AttentionCall
from corelib.attention.record import record, row_index
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores, ordered
from corelib.core.heads import HeadSet, top_count
from corelib.core.progress import Progress, silent
from corelib.experiments.dense_choices import greedy_dense, windowing_effects
from corelib.experiments.score_heads import measure_heads, summarise_heads
from corelib.metrics.catalogue import METRICS
from corelib.metrics.ram import mass, reduce_rows
from corelib.models.vlm import VLM
from corelib.sparse import Window
from corelib.tasks import Draw

READ = (  # metrics that rank
    "RAM",
    "RAM, most in the answer",
    "RAM, last row",
    "RAM, question rows",
    "RAM, most in the question",
    "visual share",
    "output norm",
)
FEW = 7  # heads that redirection needs in the scenes of `bridge`
CANDIDATES = 30  # by RAM, of which the greedy choice takes its heads


def rank_for_density(
    vlm: VLM,
    ranked: Draw,
    tried: Draw,
    window: Window,
    *,
    fraction: float = 0.05,
    candidates: int = CANDIDATES,
    progress: Progress = silent,
) -> dict[str, HeadSet]:
    """The heads to stay dense, by the name of what chose them: the metrics of `READ`, `evidence and anchors`,
    `windowing effect`, `greedy`, `blend` (the mean of the ranks by RAM and by windowing effect), `RAM, 7 heads` and
    `RAM, groups` (whole groups of heads that share a key/value head, by their best head, as many as the budget holds).

    Metrics are read on `ranked`, windows are tried on `tried`, which asks several questions about each picture.

    Raises:
        BadInput: Both draws share samples, or there are fewer heads than `candidates` or in the budget.
    """
    if (repr(ranked.task), ranked.split, ranked.seed) == (repr(tried.task), tried.split, tried.seed):
        raise BadInput("heads are ranked and tried on the same samples: take another split or seed for one of both")
    scores = _scores(vlm, ranked)
    ram, total = np.asarray(scores["RAM"]), vlm.num_layers * vlm.num_heads
    count = top_count(fraction, total)
    if not count <= candidates <= total:
        raise BadInput(f"{candidates} candidates for {count} of {total} heads: give no fewer than the budget")
    effects = windowing_effects(vlm, tried, window, progress=progress).numpy()
    found = {name: one.top(fraction) for name, one in scores.items()}
    found["evidence and anchors"] = _first(anchored_ram(vlm, ranked).numpy(), count)
    found["windowing effect"] = _first(effects, count)
    found["blend"] = _first(sum(rankdata(one).reshape(one.shape) for one in (ram, effects)), count)
    best = scores["RAM"].order()
    found["greedy"] = HeadSet(greedy_dense(vlm, tried, window, best[:candidates], count, progress=progress))
    found[f"RAM, {FEW} heads"] = HeadSet(best[:FEW])
    found["RAM, groups"] = _groups(ram, vlm.num_heads // vlm.num_kv_heads, count)
    return found


def _scores(vlm: VLM, draw: Draw) -> dict[str, HeadScores]:
    metrics = {name: METRICS[name] for name in READ}
    quantities = list(dict.fromkeys(one.quantity for one in metrics.values()))
    found = measure_heads(vlm, draw, quantities=quantities, keys=[one.key for one in metrics.values()], batch_size=1)
    assert found is not None  # one process
    return {name: summarise_heads(vlm, draw, found, metric=one) for name, one in metrics.items()}


@torch.no_grad()
def anchored_ram(vlm: VLM, draw: Draw) -> Float[Tensor, "layer head"]:
    """RAM on evidence and anchors together: the attention to both, the mean over answer rows, and over samples.
    Float64, on the CPU."""
    total = torch.zeros(vlm.num_layers, vlm.num_heads, dtype=torch.double)
    for indices in draw.batches(1):
        batch = vlm.encode(draw.take(indices))
        rows, sought = batch.rows("answer"), batch.evidence | batch.anchors

        def reduce(call: AttentionCall, attention: Tensor, sought: Tensor = sought) -> Tensor:
            return mass(attention, sought)

        with record(vlm.model, rows, reduce=reduce) as recorded:
            vlm.answer(batch)
        real = row_index(rows)[1]
        total += torch.stack([reduce_rows(layer, real).double().sum(0).cpu() for layer in recorded.stack()])
    return total / draw.samples


def _first(values: Float[np.ndarray, "layer head"], count: int) -> HeadSet:
    return HeadSet(ordered(values)[:count])


def _groups(ram: Float[np.ndarray, "layer head"], size: int, count: int) -> HeadSet:
    """Whole groups, by their best head."""
    best = ram.reshape(len(ram), -1, size).max(-1)
    layers, groups = np.unravel_index(np.argsort(-best, axis=None, kind="stable"), best.shape)
    chosen = list(zip(layers.tolist(), groups.tolist(), strict=True))[: max(1, count // size)]
    return HeadSet((layer, group * size + place) for layer, group in chosen for place in range(size))
