"""What a sweep over single heads costs: going on from a layer, the prefix shared, against whole passes; each at its own
best batch size.

    python tests/benchmarks/bench_sweep.py [model[:heads] …]

About fifty heads from all layers, or as many as are asked for, on 32 samples of scenes, four questions about each
picture and one; both ways in one process, on samples that are encoded already. Not part of the test suite: a timing is
no test. `bridge:12` takes a quarter of an hour on two cores.
"""

from __future__ import annotations

import sys
import time

import torch

from corelib import HeadSet, load, task
from corelib.attention.intervene import ablate
from corelib.replay.from_layer import replay_from_layer
from corelib.replay.residual_cache import residual_cache
from corelib.replay.shared_prefix import share_prefix

HEADS, SAMPLES, BATCHES, SEQUENCES = 48, 32, (8, 16, 32), (16, 32, 64, 128, 256)


def best(ways) -> tuple[float, object, torch.Tensor]:
    """The fastest of several ways: seconds, its name, and what it found."""
    found = []
    for name, way in ways.items():
        began = time.perf_counter()
        result = way()
        found.append((time.perf_counter() - began, name, result))
    return min(found, key=lambda one: one[0])


def compare(name: str, heads: int, questions: int) -> None:
    vlm, work = load(name), task("scenes")
    samples = [sample for k in range(SAMPLES // questions) for sample in work.questions_for("select", 0, k, questions)]
    sets = [
        HeadSet([head])
        for head in list(HeadSet.all(vlm.num_layers, vlm.num_heads))[:: vlm.num_layers * vlm.num_heads // heads]
    ]
    encoded = {size: [vlm.encode(samples[k : k + size]) for k in range(0, SAMPLES, size)] for size in BATCHES}

    def whole(size, sets=sets):
        found = []
        for heads in sets:
            with ablate(vlm.model, heads):
                found.append(torch.cat([vlm.answer(one).logprob for one in encoded[size]]))
        return torch.stack(found)

    def resumed(sequences):
        traces = (share_prefix(residual_cache(vlm, one), one) for one in encoded[16])
        return torch.cat([replay_from_layer(one, sets, batch_size=sequences).logprob for one in traces], 1)

    vlm.answer(encoded[16][0])  # warm
    size = best({size: lambda size=size: whole(size, sets[:2]) for size in BATCHES})[1]
    slow, _, one = best({size: lambda: whole(size)})
    fast, sequences, two = best({count: lambda count=count: resumed(count) for count in SEQUENCES})
    print(
        f"{vlm.name}, {questions} a picture: {len(sets)} heads, whole passes {slow:.1f} s (batch {size}), resumed "
        f"{fast:.1f} s ({sequences} sequences): {slow / fast:.2f} times as fast; apart by "
        f"{(one - two).abs().max():.1e} nats",
        flush=True,
    )


if __name__ == "__main__":
    for asked in sys.argv[1:] or ("mini-s", "mini-m", "bridge:12"):
        name, _, heads = asked.partition(":")
        for questions in (4, 1):
            compare(name, int(heads or HEADS), questions)
