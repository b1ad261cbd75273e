"""Retrieval Attention Mass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from corelib.analysis.stats import bootstrap_interval
from corelib.attention.record import record
from corelib.core.errors import CorelibError
from corelib.core.geometry import Box
from corelib.core.heads import Head
from corelib.exercises.verdict import Verdict, compare_tensors, not_yet, right
from corelib.metrics import lift, mass, ram
from corelib.models.vlm import VLM
from corelib.tasks import task


def check_lift(my_lift: Callable[..., Float[Tensor, "head row"]], vlm: VLM) -> Verdict:
    """Exercise 2.1: the lift of each head and row."""
    one = vlm.encode([task("video").sample("select", seed=0, index=0)])
    with record(vlm.model, one.after_image) as recorded:
        vlm.model(**one.inputs, use_cache=False)
    attention, evidence, visual = recorded.attention[vlm.num_layers // 2][0], one.evidence[0], one.visual[0]
    expected, given = lift(attention, evidence, visual), my_lift(attention, evidence, visual)
    on_evidence, on_picture = mass(attention, evidence), mass(attention, visual)
    mistakes = {
        "this is raw RAM": on_evidence,
        "this is the visual share; it still grows with the evidence": on_evidence / on_picture,
        "lift stays inside the picture; you used all tokens": on_evidence / evidence.float().mean(),
        "upside down": 1 / expected,
    }
    return compare_tensors(given, expected, mistakes, " [head, row]")


def check_anchor_head(head: object, vlm: VLM) -> Verdict:
    """Exercise 2.2: the head with the most attention to the anchor, at any row."""
    drawn = task("scenes", relational=1.0).draw("select", samples=64, seed=1)
    batch = vlm.encode([one for one in drawn if one.question.split()[1] in ("left", "right")])
    tables = {}
    for name, keys in (("anchor", batch.anchors), ("evidence", batch.evidence)):
        with record(vlm.model, batch.after_image, reduce=partial(_mass_on, keys)) as recorded:
            vlm.model(**batch.inputs, use_cache=False)
        best = recorded.stack().mean(1).amax(-1)
        tables[name] = Head(*divmod(int(best.argmax()), vlm.num_heads))
    if str(head) == str(tables["anchor"]):
        return right(f"{head} attends to the anchor most")
    return not_yet(
        "this head attends to the evidence"
        if str(head) == str(tables["evidence"])
        else "another head attends to the anchor more"
    )


def _mass_on(keys: Tensor, call: object, attention: Tensor) -> Tensor:
    return mass(attention, keys)


def check_chance(uniform_ram: Callable[[Bool[Tensor, " token"], int], float]) -> Verdict:
    """Exercise 2.3: the RAM of a head that attends uniformly."""
    evidence = torch.tensor([False, False, True, True, False, False, False, False])
    for row, expected in ((7, 2 / 8), (4, 2 / 5), (2, 1 / 3), (1, 0.0)):
        given = float(uniform_ram(evidence, row))
        if abs(given - expected) > 1e-6:
            if abs(given - 2 / 8) < 1e-6:
                return not_yet("a row sees only what stands up to itself")
            return not_yet(f"at row {row} it is not {given:.3f}")
    return right()


def check_bootstrap(interval: Callable[..., tuple[float, float]]) -> Verdict:
    """Exercise 2.4: a bootstrap interval of a mean."""
    values = np.random.default_rng(0).beta(1, 3, 64)
    low, high = (float(end[0]) for end in bootstrap_interval(values[:, None]))
    given = interval(values, np.random.default_rng(1))
    if abs(given[0] - low) < 0.015 and abs(given[1] - high) < 0.015:
        return right()
    spread = np.quantile(values, [0.025, 0.975])
    if np.abs(np.array(given) - spread).max() < 0.02:
        return not_yet("this is where single samples lie; the interval is of their mean")
    return not_yet(f"the interval should be near [{low:.2f}, {high:.2f}]")


def check_large_box(box: object, untrained: VLM) -> Verdict:
    """Exercise 2.5: a box for which a model that knows nothing has a mean RAM above one half."""
    if not isinstance(box, Box):
        return not_yet("give a Box(x0, y0, x1, y1)")
    batch = untrained.encode(list(task("scenes").draw("select", samples=16)))
    try:
        region = batch.cover([[box]] * 16)
    except CorelibError as error:
        return not_yet(str(error))
    with record(untrained.model, batch.rows("answer"), reduce=lambda call, a: ram(a, region)) as recorded:
        untrained.model(**batch.inputs, use_cache=False)
    found = float(recorded.stack().mean())
    if found <= 0.5:
        return not_yet(f"the mean RAM is {found:.2f}")
    return right(f"the mean RAM of a model with random weights is {found:.2f}")
