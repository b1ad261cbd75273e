"""Acceleration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from corelib import atlas
from corelib.exercises.verdict import Verdict, compare, not_yet, right
from corelib.experiments.out_of_window import out_of_reach
from corelib.models.vlm import VLM
from corelib.sparse import Window, sparsify
from corelib.tasks import task

WIDTHS = (2, 8, 16, 32)


def check_widths(accuracy: object, small: VLM) -> Verdict:
    """Exercise 10.1: accuracy of `mini-s-long` with its top 10 % dense on questions out of reach, by window."""
    batch = small.encode(task("scenes").draw("test", samples=128, seed=2))
    core, expected, everything = atlas.cell("mini-s-long", "scenes").scores().top(0.10), {}, {}
    for width in WIDTHS:
        window = Window(width, sinks=4)
        with sparsify(small.model, core, window):
            answered = small.answer(batch).correct.double()
        expected[width] = float(answered[out_of_reach(batch, window)].mean())
        everything[width] = float(answered.mean())
    return compare(accuracy, expected, 0.01, {"these are all questions; count those out of reach": everything})


def check_largest(which: object, small: VLM) -> Verdict:
    """Exercise 10.2: which top 10 % keeps more answers, that of RAM or of the output norm?"""
    batch, window, kept = small.encode(task("scenes").draw("test", samples=128, seed=2)), Window(8, sinks=4), {}
    for name, key in (("RAM", "answer/mean/raw"), ("output norm", "answer/mean/output_norm")):
        heads = atlas.cell("mini-s-long", "scenes").scores(key).top(0.10)
        with sparsify(small.model, heads, window):
            kept[name] = float(small.answer(batch).correct[out_of_reach(batch, window)].double().mean())
    best = max(kept, key=lambda name: kept[name])
    if which == best:
        return right(", ".join(f"{name} {value:.2f}" for name, value in kept.items()))
    return not_yet("measure both" if which in kept else f"say one of {list(kept)}")


def check_seen(seen: Callable[[int, int, int], Bool[Tensor, "row key"]]) -> Verdict:
    """Exercise 10.3: what a windowed head sees."""
    rows = torch.arange(12)
    expected = Window(3, sinks=2).seen(rows[:, None], rows)
    given = seen(12, 3, 2)
    if not isinstance(given, Tensor) or given.shape != expected.shape:
        return not_yet("the result should be [12, 12], True where a row sees a key")
    if torch.equal(given, expected):
        return right()
    if (given & (rows[None] > rows[:, None])).any():
        return not_yet("a row sees the future")
    return not_yet("the sinks are missing" if not given[-1, 0] else "count the width with the row itself")


def check_amdahl(speedup: Callable[[float, float], float]) -> Verdict:
    """Exercise 10.4: Amdahl's law."""
    for share, gain in ((0.4, 5.0), (0.5, 2.0), (1.0, 3.0), (0.0, 9.0)):
        expected = 1 / ((1 - share) + share / gain)
        if abs(speedup(share, gain) - expected) > 1e-6:
            if abs(speedup(share, gain) - share * gain) < 1e-6:
                return not_yet("the rest of the layer takes its time, too")
            return not_yet(f"a share of {share:.0%} made {gain:.0f} times as fast gives {expected:.2f}")
    return right()


def check_memory(times: object) -> Verdict:
    """Exercise 10.5 (bridge): how many times smaller is the cache at 4,096 tokens, with 12 of 90 key/value heads dense,
    a window of 256 and 6 sinks?"""
    near = 6 + 256 - 1
    expected = 90 * 4096 / (12 * 4096 + 78 * near)
    mistakes = {
        "14 query heads are not 12 key/value heads": {"times": 90 * 4096 / (14 * 4096 + 76 * near)},
        "the dense heads still keep everything": {"times": 4096 / near},
    }
    return compare({"times": times}, {"times": expected}, 0.02, mistakes)
