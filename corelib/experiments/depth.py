"""From which layer on is the evidence no longer needed? Knockout in nested sets of layers.

Accuracy when all heads in layers l, l + 1, …, L − 1 do not see the evidence, for l = 0 … L: at l = 0 nothing sees it
(as `without` in `evidence.py`), at l = L all do. Where the curve rises, the evidence is being read. Our definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corelib.attention.intervene import knockout
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.experiments.evidence import proportion
from corelib.models.vlm import VLM
from corelib.replay.from_question import replay_from_question
from corelib.tasks import Draw


@dataclass(frozen=True)
class DepthCurve:
    """Accuracy by the first layer from which the evidence is hidden."""

    samples: int
    layers: tuple[int, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def knockout_from(
    vlm: VLM,
    draw: Draw,
    *,
    layers: Sequence[int] | None = None,
    batch_size: int = 64,
    progress: Progress = silent,
) -> dict[str, DepthCurve]:
    """By kind of question: accuracy when the heads from each of `layers` (default: all) on do not see the evidence."""
    layers = range(vlm.num_layers + 1) if layers is None else layers
    right: dict[tuple[int, str], list[bool]] = {}
    done = 0
    for indices in draw.batches(batch_size):
        drawn = draw.take(indices)
        batch = vlm.encode(drawn)
        answer = replay_from_question(vlm, batch)
        for layer in layers:
            hidden = HeadSet((deep, head) for deep in range(layer, vlm.num_layers) for head in range(vlm.num_heads))
            with knockout(vlm.model, batch.evidence, batch.after_image, hidden):
                marks = answer().correct.tolist()
            for sample, mark in zip(drawn, marks, strict=True):
                right.setdefault((layer, sample.kind), []).append(mark)
        done += len(drawn)
        progress(done, draw.samples)
    found = {}
    for kind in sorted({kind for _, kind in right}):
        parts = [proportion(right[layer, kind]) for layer in layers]
        curves = {name: tuple(getattr(part, name) for part in parts) for name in ("accuracy", "low", "high")}
        found[kind] = DepthCurve(parts[0].samples, tuple(layers), **curves)
    return found
