"""What a sweep over single heads costs: going on from a layer, the prefix shared, against whole passes; each at its own
best batch size.

    python tests/benchmarks/bench_sweep.py [model …]

About fifty heads from all layers, on 32 samples of scenes, four questions about each
picture and one; both ways in one process, on samples that are encoded already. Not part of the test suite: a timing is
no test. A model that is not there yet is built untrained: `mini-m` takes as long whatever its weights are.
"""

from __future__ import annotations

import sys
import time

import torch

from corelib import HeadSet, load, task
from corelib.embedded import names
from corelib.intervene import ablate
from corelib.prefix import share_prefix
from corelib.resume import resume, trace
from corelib.training.pupils import Mini
from corelib.vlm import VLM

HEADS, SAMPLES, BATCHES, SEQUENCES = 48, 32, (8, 16, 32), (16, 32, 64, 128, 256)


def model(name: str) -> VLM:
    if name in names():
        return load(name)
    untrained = Mini(name, 0)
    return VLM(f"{name} (untrained)", untrained.model.eval(), untrained.family)


def best(ways) -> tuple[float, object, torch.Tensor]:
    """The fastest of several ways: seconds, its name, and what it found."""
    found = []
    for name, way in ways.items():
        began = time.perf_counter()
        result = way()
        found.append((time.perf_counter() - began, name, result))
    return min(found, key=lambda one: one[0])


def compare(name: str, questions: int) -> None:
    vlm, work = model(name), task("scenes")
    samples = [sample for k in range(SAMPLES // questions) for sample in work.about("select", 0, k, questions)]
    sets = [HeadSet([head]) for head in list(HeadSet.all(vlm.layers, vlm.heads))[:: vlm.layers * vlm.heads // HEADS]]
    encoded = {size: [vlm.encode(samples[k : k + size]) for k in range(0, SAMPLES, size)] for size in BATCHES}

    def whole(size):
        found = []
        for heads in sets:
            with ablate(vlm.model, heads):
                found.append(torch.cat([vlm.answer(one).logprob for one in encoded[size]]))
        return torch.stack(found)

    def resumed(sequences):
        traces = (share_prefix(trace(vlm, one), one) for one in encoded[16])
        return torch.cat([resume(one, sets, batch=sequences).logprob for one in traces], 1)

    vlm.answer(encoded[16][0])  # warm
    slow, size, one = best({size: lambda size=size: whole(size) for size in BATCHES})
    fast, sequences, two = best({count: lambda count=count: resumed(count) for count in SEQUENCES})
    print(
        f"{vlm.name}, {questions} a picture: {len(sets)} heads, whole passes {slow:.1f} s (batch {size}), resumed "
        f"{fast:.1f} s ({sequences} sequences): {slow / fast:.2f} times as fast; apart by "
        f"{(one - two).abs().max():.1e} nats",
        flush=True,
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or ("mini-s", "mini-m", "bridge"):
        for questions in (1, 4):
            compare(name, questions)
