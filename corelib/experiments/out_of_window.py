"""Answer questions under one program after another, and count those whose evidence is out of a window's reach.

    conditions = [nullcontext, partial(sparsify, vlm.model, dense, window)]
    found = answer_under(vlm, task("scenes").draw("test", samples=256), conditions, window)
    found.against(1).loss               # accuracy lost in the second condition, paired with the first

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
from corelib.core.entries import check_whole
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.sample_store import collect
from corelib.core.values import Accuracy, AccuracyKept, Estimate, TaskFacts
from corelib.experiments.answer_sweep import check_pictures, compute_dtype
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.from_question import whole_pass
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.sparse import Window, sparsify
from corelib.tasks import Draw

Condition = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class PairedAccuracy:
    """What was right under each condition, of the samples that count."""

    right: Float[np.ndarray, "condition sample"]
    picture: Int[np.ndarray, " sample"]  # intervals resample pictures
    level: float
    seed: int

    @classmethod
    def of(
        cls,
        draw: Draw,
        right: Bool[Tensor, "sample condition"],
        counted: Bool[Tensor, " sample"],
        *,
        width: int,
        level: float,
    ) -> PairedAccuracy:
        """Of the samples of a draw that count under a window of this width.

        Raises: BadInput if these are about fewer than two pictures.
        """
        picture = np.array(draw.clusters)[counted.numpy()]
        if len(set(picture.tolist())) < 2:
            raise BadInput(f"a window of {width} keys reaches the evidence of nearly all samples: take a smaller one")
        return cls(right[counted].double().numpy().T, picture, level, draw.seed)

    @property
    def counted(self) -> int:
        """How many samples count."""
        return int(self.right.shape[1])

    def accuracy(self, condition: int) -> float:
        """The share of right answers."""
        return float(self.right[condition].mean())

    def stated(self, condition: int) -> Accuracy:
        """Accuracy with its interval."""
        return Accuracy(self.accuracy(condition), *self._interval(self.right[condition]))

    def against(self, condition: int) -> AccuracyKept:
        """The same, and what is lost against the first condition."""
        worse = self.right[0] - self.right[condition]
        loss = Estimate(float(worse.mean()), *self._interval(worse))
        mine = self.stated(condition)
        return AccuracyKept(mine.accuracy, mine.low, mine.high, loss)

    def _interval(self, values: np.ndarray) -> tuple[float, float]:
        low, high = bootstrap_interval(values, clusters=self.picture.tolist(), level=self.level, seed=self.seed)
        return float(low), float(high)


@dataclass(frozen=True)
class HybridAccuracy:
    """Accuracy with all heads dense, and with only a few."""

    task: TaskFacts
    dense: Accuracy
    hybrid: AccuracyKept


def answer_under(
    vlm: VLM,
    draw: Draw,
    conditions: Sequence[Condition],
    window: Window,
    *,
    batch_size: int = 16,
    level: float = 0.95,
    named: Mapping[str, object] | None = None,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> PairedAccuracy:
    """Answer the same samples under all the `conditions`; those count whose evidence is out of reach of `window`.

    With several questions about each picture (or row of pictures), these are read once a condition. `named` says what
    the conditions are: a `store` holds answers of these and no others.

    Raises: BadInput for a batch below 1, or if the window reaches the evidence of nearly all samples.
    """
    check_pictures(draw)
    check_whole("batch_size", batch_size, 1)
    fingerprint = {"model": vlm.sha256, "precision": compute_dtype(vlm), **draw.fingerprint}
    fingerprint |= {"window": [window.width, window.sinks], **(named or {})}

    def answer(indices: list[int]) -> dict[str, Tensor]:
        batch = vlm.encode(draw.take(indices))
        ask = partial(whole_pass, vlm, batch) if draw.questions == 1 else replay_from_prefix(vlm, batch)
        found = []
        for condition in conditions:
            with condition():
                found.append(ask().correct)
        return {"correct": torch.stack(found, 1), "counted": out_of_reach(batch, window)}

    batches = partial(draw.batches, batch_size if draw.questions == 1 else draw.questions)
    found = collect(answer, draw.samples, batches, fingerprint, store, progress)
    return PairedAccuracy.of(draw, found["correct"], found["counted"], width=window.width, level=level)


def accuracy_kept(
    vlm: VLM, draw: Draw, dense: HeadSet, window: Window, *, batch_size: int = 16, progress: Progress = silent
) -> HybridAccuracy:
    """Accuracy with all heads dense, and with only the `dense` ones."""
    conditions: list[Condition] = [nullcontext, partial(sparsify, vlm.model, dense, window)]
    found = answer_under(vlm, draw, conditions, window, batch_size=batch_size, progress=progress)
    return HybridAccuracy(draw.facts(counted=found.counted), found.stated(0), found.against(1))


def out_of_reach(batch: Batch, window: Window) -> Bool[Tensor, " batch"]:
    """Which samples have all their evidence beyond the window of every row behind the pictures, and no sink in it."""
    places = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    begins = batch.real.int().argmax(1)
    first = batch.after_image.int().argmax(1)
    last = torch.where(batch.evidence, places, -1).amax(1)
    sink = (batch.evidence & (places < begins[:, None] + window.sinks)).any(1)
    return ((last >= 0) & (last <= first - window.width) & ~sink).cpu()


def sinks_and_length(vlm: VLM, draw: Draw) -> tuple[int, int]:
    """Of the first few pictures (at most 16): how many tokens stand before a picture, at least 4, which make the sinks;
    and how long a sequence is on average."""
    firsts = range(0, min(draw.pictures, 16) * draw.questions, draw.questions)
    batch = vlm.encode(draw.take(firsts))
    before = batch.source.int().argmax(1) - batch.real.int().argmax(1)
    return max(4, int(before.max())), round(batch.real.sum(1).double().mean().item())
