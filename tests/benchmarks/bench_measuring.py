"""What measuring RAM costs: a pass with rows recorded against the plain one, and against eager attention.

    python tests/benchmarks/bench_measuring.py [--layers N] [--dtype float32] [--out FILE] [tokens …]

Alternating runs in one process, at the size of Qwen3-VL-2B with random weights. Not part of the test suite: a timing is
no test. Processors without instructions for bfloat16 are many times slower in it: give them float32.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from corelib.benchmarks.bench_models import published_size
from corelib.benchmarks.record_cost import TooLarge, measure_record_cost

GEOMETRY = "qwen3-vl-2b"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", nargs="*", type=int, default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--layers", type=int, default=1, help="decoder layers (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--out", help="the results file to write")
    options = parser.parse_args()
    subject = published_size(GEOMETRY, 0.05, layers=options.layers, dtype=getattr(torch, options.dtype), device="cpu")
    with torch.no_grad():
        found = measure_record_cost(
            subject.model,
            options.tokens,
            facts=replace(subject.facts, dtype=options.dtype),
            progress=lambda done, total: print(f"{done} of {total} lengths", flush=True),
        )
    for row in found.lengths:
        plain = row.plain
        print(f"{row.tokens:6d} tokens: plain {plain.seconds:.2f} s, {(plain.bytes or 0) / 2**20:.0f} MiB")
        for way in ("record", "eager"):
            one = getattr(row, way)
            if isinstance(one, TooLarge):
                print(f"{way:>13}: would need {one.would_need / 2**30:.0f} GiB")
            else:
                larger = f", {one.bytes / plain.bytes:.2f} times the memory" if one.bytes and plain.bytes else ""
                print(f"{way:>13}: {one.seconds / plain.seconds:.2f} times as long{larger}")
    if options.out:
        found.save(options.out)
