"""What a sweep over single heads costs: going on from a layer against whole passes, each at its own best batch size.

    python tests/benchmarks/bench_sweep.py [model …]

Every seventh head of the model, so that all layers are there, on 32 samples of scenes; both ways in one process, on
samples that are encoded already. Not part of the test suite: a timing is no test.
"""

from __future__ import annotations

import sys
import time

import torch

from corelib import HeadSet, load, task
from corelib.intervene import ablate
from corelib.resume import resume, trace

SAMPLES, BATCHES, SEQUENCES = 32, (4, 8, 16, 32), (32, 64, 128, 256, 512)


def best(ways) -> tuple[float, object, torch.Tensor]:
    """The fastest of several ways: seconds, its name, and what it found."""
    found = []
    for name, way in ways.items():
        began = time.perf_counter()
        result = way()
        found.append((time.perf_counter() - began, name, result))
    return min(found, key=lambda one: one[0])


def compare(name: str) -> None:
    vlm, work = load(name), task("scenes")
    samples = list(work.samples("select", 0, SAMPLES))
    sets = [HeadSet([head]) for head in list(HeadSet.all(vlm.layers, vlm.heads))[::7]]
    encoded = {size: [vlm.encode(samples[k : k + size]) for k in range(0, SAMPLES, size)] for size in BATCHES}

    def whole(size):
        found = []
        for heads in sets:
            with ablate(vlm.model, heads):
                found.append(torch.cat([vlm.answer(one).logprob for one in encoded[size]]))
        return torch.stack(found)

    def resumed(sequences):
        return torch.cat([resume(trace(vlm, one), sets, batch=sequences).logprob for one in encoded[8]], 1)

    vlm.answer(encoded[8][0])  # warm
    slow, size, one = best({size: lambda size=size: whole(size) for size in BATCHES})
    fast, sequences, two = best({count: lambda count=count: resumed(count) for count in SEQUENCES})
    print(
        f"{name}: {len(sets)} heads, whole passes {slow:.1f} s (batch {size}), from the layer {fast:.1f} s "
        f"({sequences} sequences): {slow / fast:.2f} times as fast; apart by {(one - two).abs().max():.1e} nats"
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or ("mini-s", "bridge"):
        compare(name)
