"""From which layer on is the evidence no longer needed? Blindness in nested sets of layers.

Accuracy when all heads in layers l, l + 1, …, L − 1 are blind to the evidence, for l = 0 … L: at l = 0 nothing sees it
(as `without` in `evidence.py`), at l = L all do. Where the curve rises, the evidence is being read. Our definition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corelib.attention.intervene import knockout
from corelib.core.heads import HeadSet
from corelib.experiments.evidence import proportion
from corelib.models.vlm import VLM
from corelib.replay.from_question import replay_from_question
from corelib.tasks import Task


def knockout_from(
    vlm: VLM,
    task: Task,
    *,
    layers: Sequence[int] | None = None,
    split: str = "select",
    seed: int = 0,
    samples: int = 256,
    batch_size: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, list]]:
    """By kind of question: `layers`, and for each of them `accuracy`, `low` and `high` when the heads from that layer
    on are blind; and how many `samples` there were."""
    layers = range(vlm.num_layers + 1) if layers is None else layers
    right: dict[tuple[int, str], list[bool]] = {}
    done = 0
    for drawn in task.batches(split, seed, samples, batch_size):
        encoded = vlm.encode(drawn)
        answer = replay_from_question(vlm, encoded)
        for layer in layers:
            blinded = HeadSet((deep, head) for deep in range(layer, vlm.num_layers) for head in range(vlm.num_heads))
            with knockout(vlm.model, encoded.evidence, encoded.after_image, blinded):
                marks = answer().correct.tolist()
            for sample, mark in zip(drawn, marks, strict=True):
                right.setdefault((layer, sample.kind), []).append(mark)
        done += len(drawn)
        progress(done, samples)
    found = {}
    for kind in sorted({kind for _, kind in right}):
        parts = [proportion(right[layer, kind]) for layer in layers]
        curves = {name: [part[name] for part in parts] for name in ("accuracy", "low", "high")}
        found[kind] = {"samples": parts[0]["samples"], "layers": list(layers), **curves}
    return found
