"""Heads against the other heads of their layers, by plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from corelib.analysis.division import difference_from_layer, division
from corelib.analysis.kv_controls import kv_matched
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet

VALUES = np.random.default_rng(0).random((20, 3, 8))
HEADS = HeadSet("L0H1 L2H3 L2H6")


def by_loops(heads):
    found = []
    for sample in VALUES:
        parts = []
        for head in heads:
            rest = [sample[head.layer, k] for k in range(8) if f"L{head.layer}H{k}" not in heads]
            parts.append(sample[head.layer, head.index] - sum(rest) / len(rest))
        found.append(sum(parts) / len(parts))
    return np.array(found)


def test_it_is_what_loops_say():
    np.testing.assert_allclose(difference_from_layer(VALUES, HEADS), by_loops(HEADS))


def test_a_shift_of_a_layer_changes_nothing():
    """What lies in the depth of a layer is no difference."""
    shifted = VALUES + np.array([0.0, 5.0, -9.0])[:, None]
    np.testing.assert_allclose(difference_from_layer(shifted, HEADS), difference_from_layer(VALUES, HEADS))


def test_p_counts_the_matched_sets():
    found = division(VALUES, HEADS, kv_heads=4, draws=30, seed=3)
    mine = by_loops(HEADS).mean()
    null = [by_loops(one).mean() for one in kv_matched(HEADS, 3, 8, 4, draws=30, seed=3)]
    assert found.sets == len(null) == 30
    assert found.p == pytest.approx((1 + sum(one <= mine for one in null)) / 31)
    assert found.difference.value == pytest.approx(mine)
    low = VALUES.copy()
    for head in HEADS:
        low[:, head.layer, head.index] -= 2
    assert division(low, HEADS, kv_heads=4, draws=30).p == pytest.approx(1 / 31)
    assert division(low, HEADS, kv_heads=4, draws=30).difference.high < 0


def test_bad_input():
    for heads, says in (
        ("", "no head"),
        ("L3H0", "layers 0–2"),
        ("L0H0 L0H1 L0H2 L0H3 L0H4 L0H5 L0H6 L0H7", "all heads"),
    ):
        with pytest.raises(BadInput, match=says):
            difference_from_layer(VALUES, HeadSet(heads))
