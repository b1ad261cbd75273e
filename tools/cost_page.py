"""Write the page on what it costs to score the heads of a large model on many samples, from what was measured.

python tools/cost_page.py            # book/cost.md
python tools/cost_page.py --check    # changes nothing; fails if the page is not what the results say
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from corelib import atlas
from corelib.benchmarks.scale import Scale

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "cost.md"
FILES = "https://github.com/corelib-book/core-heads/blob/main/corelib/atlas/bench"
YEAR = 365.25 * 86_400  # seconds

HEAD = """# What it costs

How long will it take to rank the heads of a large model, on as many samples as a data set has? Find out before you
rent a machine. This page is written from measurements (`tools/cost_page.py`); no number on it is typed by hand.

## One sample

Every sample is read once, in one forward pass, and RAM along the way. So

> cost = samples × (vision tower + layers × one layer with RAM read) + bookkeeping

The layers of a model are all of one size. One of them fits on a laptop, even of a model of 32 billion weights. Each
part was timed here by itself, at the published size and with random weights. The last two columns are *added up, not
run*.

| model | tower | one layer | with RAM read | layers | one sample | {samples:,} samples |
|---|---|---|---|---|---|---|
{rows}

{tokens:,} visual tokens a sample, {dtype}, on {cores} processor cores without a GPU, medians of {repeats} runs.
Such a machine is good for trying things, and not for scoring such models.
"""
BOOKS = """
## Keeping books

Every batch is stored as soon as it is done: one number for each sample and head, so that a run that was stopped can
go on, and intervals can be resampled. At the end all of them are read, averaged, resampled and halved. This was run
in full, on random numbers in place of scores, for {samples:,} samples.

| model | heads | storing | on disk | reading | summing up | memory, at most |
|---|---|---|---|---|---|---|
{rows}

Next to the passes this is little. The memory is the reason why `score_heads` keeps the one score that was asked for.
The head atlas keeps all of them, of a few hundred samples.
"""
GPU = """
## On a GPU

**Not measured yet.** One command gives the seconds of a sample on yours, and another the parts of this page:

```bash
corelib bench --geometry qwen3-vl-32b --layers 4 --lengths 1k --first --device cuda
python tests/benchmarks/bench_scale.py qwen3-vl-32b --device cuda
```

Then do the sum. Samples are shared among processes, so that each of *n* GPUs reads an *n*-th of them: see [More than
one GPU](beyond.md). Rows are read in any precision, and the scores kept in float32.
"""
LESS = """
## Do you need so many?

Rarely. The error of a mean falls with the root of the number of samples: a hundred times the samples, a tenth of the
error. The [chapter on ranking](../notebooks/03_ranking_heads.ipynb) asks how well a ranking repeats itself on other
samples, and every head-scores file says it of its own ranking (`reliability`). Begin with 128 samples, look at that
number, and stop when it is high.

Ablations cost more than rankings: a sample is read once for every set of heads that is removed, the top and each
random one. They need no more samples than the interval that you want to quote asks for.
"""


def results() -> list[Scale]:
    """All that was measured on a processor, small models first."""
    found = [Scale.load(path) for path in (atlas.HOME / "bench").glob("scale-*-cpu.json")]
    return sorted(found, key=lambda one: (one.model.num_layers * one.model.num_heads, one.model.name))


def page(found: list[Scale]) -> str:
    """The page in Markdown."""
    first = found[0]
    shared = {"samples": first.samples, "tokens": first.tokens, "repeats": first.repeats, **first.machine}
    if any(one.samples != first.samples or one.tokens != first.tokens or one.machine != first.machine for one in found):
        raise SystemExit("cost_page: the results are not of one machine and size; measure all of them again")
    head = HEAD.format(rows="\n".join(map(sample_row, found)), dtype=first.model.dtype, **shared)
    books = BOOKS.format(rows="\n".join(map(books_row, found)), **shared)
    return head + books + GPU + LESS


def sample_row(one: Scale) -> str:
    file = f"{FILES}/scale-{one.model.name}-cpu.json"
    parts = one.parts.tower, one.parts.layer, one.parts.layer_with_ram
    tower, layer, read = (f"{part.seconds:.1f} s" for part in parts)
    whole = one.a_sample * one.samples
    long = f"{whole / YEAR:.1f} years" if whole > YEAR else f"{whole / 86_400:.0f} days"
    return (
        f"| [`{one.model.name}`]({file}) | {tower} | {layer} | {read} | {one.model.num_layers} | "
        f"{one.a_sample:.0f} s | {long} |"
    )


def books_row(one: Scale) -> str:
    books, heads = one.books, one.model.num_layers * one.model.num_heads
    store, load, summarise = (f"{spent:.0f} s" for spent in (books.store, books.load, books.summarise))
    disk, peak = (f"{size / 2**30:.1f} GiB" if size else "unknown" for size in (books.on_disk, books.peak))
    return f"| `{one.model.name}` | {heads:,} | {store} | {disk} | {load} | {summarise} | {peak} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is out of date")
    options = parser.parse_args()
    text = page(results())
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return
    if options.check:
        print(f"{PAGE.relative_to(ROOT)} is not what the results say: python tools/cost_page.py", file=sys.stderr)
        sys.exit(1)
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
