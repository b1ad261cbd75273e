"""What a profile of a large model on many samples takes: its tower, one of its layers, and the bookkeeping.

    python tests/benchmarks/bench_scale.py qwen3-vl-32b [--samples N] [--dtype float32] [--device cuda] [--out FILE]

Random weights at a published size, random numbers in place of scores. Not part of the test suite: a timing is no test.
`tools/cost_page.py` writes the page "What it costs" from such files.
"""

from __future__ import annotations

import argparse

import torch

from corelib.benchmarks.bench_models import published_size
from corelib.benchmarks.scale import measure_scale

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("geometry", help="a published size, such as qwen3-vl-32b")
    parser.add_argument("--tokens", type=int, default=1024, help="visual tokens a sample (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=100_000, help="samples to keep books of (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each part (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", help="the results file to write")
    options = parser.parse_args()
    subject = published_size(
        options.geometry, 0.05, layers=1, dtype=getattr(torch, options.dtype), device=options.device
    )
    found = measure_scale(
        subject,
        tokens=options.tokens,
        samples=options.samples,
        repeats=options.repeats,
        progress=lambda done, total: print(f"{done} of {total} steps", flush=True),
    )
    for name, part in vars(found.parts).items():
        print(f"{name:>15}: {part.seconds:.2f} s [{part.least:.2f}, {part.most:.2f}]")
    print(f"{'a sample':>15}: {found.a_sample:.1f} s in all {found.model.num_layers} layers, added up")
    for name, value in vars(found.books).items():
        print(f"{name:>15}: {'unknown' if value is None else f'{value:,.1f}'}")
    if options.out:
        found.save(options.out)
