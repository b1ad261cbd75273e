"""The scores of every sample behind the cells of the atlas, for who computes anew: RAM and output norm.

    values = sample_scores("bridge", "scenes")      # [sample, layer, head], float32
    values.mean(0)                                  # the RAM that the cell has, but for rounding

A file lies beside each cell, in half precision: `cells/bridge/scenes.safetensors`. The order is that of the draw,

    task("scenes").draw("select", samples=256, seed=0)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from corelib.atlas.library import CELLS, cell
from corelib.core.errors import BadResults, check_known
from corelib.core.head_scores import HeadScores
from corelib.core.progress import Progress, silent
from corelib.core.results import as_file_name, write_whole
from corelib.core.values import TaskFacts
from corelib.experiments.reading import Measurement
from corelib.experiments.score_heads import measure_heads
from corelib.metrics.catalogue import METRICS, PRIMARY, Metric
from corelib.models.vlm import VLM
from corelib.tasks import Draw, task

KEPT = (PRIMARY, METRICS["output norm"])


def sample_scores(
    model: str, domain: str, metric: Metric | str = PRIMARY, folder: Path = CELLS
) -> Float[np.ndarray, "sample layer head"]:
    """The scores of a committed cell, sample by sample, float32.

    Raises: UnknownName for a metric that is not kept, BadResults if there is no such file or it is damaged.

    >>> sample_scores("mini-s", "scenes").shape
    (256, 6, 8)
    """
    key = metric if isinstance(metric, str) else metric.key
    check_known("metric that is kept of every sample", key, [one.key for one in KEPT])
    path = folder / model / f"{as_file_name(domain)}.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            found: np.ndarray = file.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise BadResults(f"cannot read {path}: {error}; `corelib atlas build --kind samples` makes it") from None
    return found.astype(np.float32)


def samples_beside(path: Path, scores: HeadScores) -> Float[np.ndarray, "sample layer head"] | None:
    """The scores of every sample behind those of a file, float32, from the file beside it (`scenes.safetensors` beside
    `scenes.json`); None if there is none that holds this metric of this model on these samples.

    Raises: BadResults if that file is damaged.

    >>> samples_beside(CELLS / "mini-s" / "scenes.json", cell("mini-s", "scenes").scores()).shape
    (256, 6, 8)
    """
    beside = path.with_suffix(".safetensors")
    if not beside.is_file():
        return None
    try:
        with safe_open(beside, framework="np") as file:
            if file.metadata() != _facts(scores.model.sha256, scores.task) or scores.metric.key not in file.keys():
                return None
            found: np.ndarray = file.get_tensor(scores.metric.key)
    except (OSError, SafetensorError) as error:
        raise BadResults(
            f"cannot read {beside}: {error}; move it away to go on without the scores of samples"
        ) from None
    return found.astype(np.float32)


def _facts(sha256: str, of: TaskFacts) -> dict[str, str]:
    """Which model and which samples a file is of."""
    return {
        "model": sha256,
        "domain": of.domain,
        "split": of.split,
        "seed": str(of.seed),
        "samples": str(of.samples),
    }


def of_kind(model: str, domain: str, kind: str) -> Bool[np.ndarray, " sample"]:
    """Which samples of a cell ask one kind of question."""
    facts = cell(model, domain).task
    drawn = task(domain).draw(facts.split, samples=facts.samples, seed=facts.seed)
    return np.array([sample.kind == check_known("kind of question", kind, drawn.task.kinds) for sample in drawn])


def write_samples(path: Path, found: Measurement, vlm: VLM, draw: Draw) -> Path:
    """Keep of a measurement what is said above, whole or not at all."""
    tables = {one.key: found.scores[one.key].half().contiguous() for one in KEPT if one.key in found.scores}
    facts = _facts(vlm.sha256, draw.facts())
    write_whole(path, lambda beside: save_file(tables, beside, metadata=facts))
    path.chmod(0o644)  # safetensors writes for the owner alone
    return path


def build_samples(
    vlm: VLM, domain: str, *, count: int = 256, seed: int = 0, folder: Path = CELLS, progress: Progress = silent
) -> Path:
    """Measure these scores alone, without the rest of a cell, and write them."""
    draw = task(domain).draw("select", samples=count, seed=seed)
    found = measure_heads(
        vlm, draw, quantities=[one.quantity for one in KEPT], keys=[one.key for one in KEPT], progress=progress
    )
    assert found is not None  # one process has them all
    target = folder / vlm.file_name / f"{as_file_name(domain)}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_samples(target, found, vlm, draw)
