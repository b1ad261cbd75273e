"""Answer questions under one program after another, and count those whose evidence is out of a window's reach.

    ways = [nullcontext, partial(sparsify, vlm.model, dense, window)]
    found = answer_in_ways(vlm, task("scenes"), ways, window, samples=256)
    found.against(1)["loss"]            # accuracy lost in the second way, paired with the first

Where the window shows the evidence a windowed head can fetch it, too: such a question says nothing about dense heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from corelib.analysis.stats import bootstrap_interval
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.core.sample_store import collect, in_batches
from corelib.experiments.answer_sweep import clusters, compute_dtype, samples_of
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.from_question import whole_pass
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.sparse import Window, sparsify
from corelib.tasks import Task

Condition = Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class PairedAccuracy:
    """What was right in each way, of the samples that count."""

    right: Float[np.ndarray, "way sample"]
    picture: Int[np.ndarray, " sample"]  # intervals resample pictures
    level: float
    seed: int

    def accuracy(self, way: int) -> float:
        return float(self.right[way].mean())

    def stated(self, way: int) -> dict[str, float]:
        """Accuracy with its interval."""
        low, high = self._interval(self.right[way])
        return {"accuracy": self.accuracy(way), "low": low, "high": high}

    def against(self, way: int) -> dict:
        """The same, and what is lost against the first way."""
        worse = self.right[0] - self.right[way]
        low, high = self._interval(worse)
        return {**self.stated(way), "loss": {"value": float(worse.mean()), "low": low, "high": high}}

    def _interval(self, values: np.ndarray) -> tuple[float, float]:
        low, high = bootstrap_interval(values, clusters=self.picture, level=self.level, seed=self.seed)
        return float(low), float(high)


def answer_under(
    vlm: VLM,
    task: Task,
    ways: Sequence[Condition],
    window: Window,
    *,
    split: str = "test",
    seed: int = 0,
    samples: int = 512,
    questions: int = 1,
    batch_size: int = 16,
    level: float = 0.95,
    named: Mapping[str, object] | None = None,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PairedAccuracy:
    """Answer the same samples in all the `ways`; those count whose evidence is out of reach of `window`.

    With several `questions` about each picture (or row of pictures), these are read once a way. `named` says what the
    ways are: a `store` holds answers of these and no others.
    """
    if samples < 2 or batch_size < 1 or questions < 1 or samples % questions:
        given = f"samples={samples}, questions={questions}, batch={batch_size}"
        raise BadInput(f"{given}: give 2 samples or more, a multiple of the questions, and the others 1 or more")
    fingerprint = {
        "model": vlm.sha256,
        "precision": compute_dtype(vlm),
        "task": repr(task),
        "split": split,
        "seed": seed,
    }
    fingerprint |= {"questions": questions, "window": [window.width, window.sinks], **(named or {})}

    def answer(indices: list[int]) -> dict[str, Tensor]:
        encoded = vlm.encode(samples_of(task, split, seed, indices, questions))
        ask = partial(whole_pass, vlm, encoded) if questions == 1 else replay_from_prefix(vlm, encoded)
        found = []
        for way in ways:
            with way():
                found.append(ask().correct)
        return {"correct": torch.stack(found, 1), "counted": out_of_reach(encoded, window)}

    found = collect(
        answer, samples, in_batches(batch_size if questions == 1 else questions), fingerprint, store, progress
    )
    right = found["correct"][found["counted"]].double().numpy().T
    picture = np.array(clusters(samples, questions))[found["counted"].numpy()]
    if len(set(picture)) < 2:
        raise BadInput(
            f"a window of {window.width} keys reaches the evidence of nearly all samples: take a smaller one"
        )
    return PairedAccuracy(right, picture, level, seed)


def accuracy_kept(vlm: VLM, task: Task, dense: HeadSet, window: Window, *, samples: int = 256, **options) -> dict:
    """Accuracy with all heads dense, and with only the `dense` ones. The `options` are those of `answer_in_ways`."""
    found = answer_under(
        vlm, task, [nullcontext, partial(sparsify, vlm.model, dense, window)], window, samples=samples, **options
    )
    told = {"split": "test", "seed": 0, "samples": samples, **options, "counted": found.right.shape[1]}
    return {"task": {**task.facts, **told}, "dense": found.stated(0), "hybrid": found.against(1)}


def out_of_reach(encoded: Batch, window: Window) -> Bool[Tensor, " batch"]:
    """Which samples have all their evidence beyond the window of every row behind the pictures, and no sink in it."""
    places = torch.arange(encoded.tokens.shape[1], device=encoded.tokens.device)
    begins = encoded.real.int().argmax(1)
    first = encoded.after_image.int().argmax(1)
    last = torch.where(encoded.evidence, places, -1).amax(1)
    sink = (encoded.evidence & (places < begins[:, None] + window.sinks)).any(1)
    return ((last >= 0) & (last <= first - window.width) & ~sink).cpu()


def sinks_and_length(vlm: VLM, task: Task, split: str, seed: int, pictures: int) -> tuple[int, int]:
    """Of the first few pictures (at most 16): how many tokens stand before a picture, at least 4, which make the sinks;
    and how long a sequence is on average."""
    encoded = vlm.encode([task.sample(split, seed, index) for index in range(min(pictures, 16))])
    before = encoded.source.int().argmax(1) - encoded.real.int().argmax(1)
    return max(4, int(before.max())), round(encoded.real.sum(1).double().mean().item())
