"""How unevenly a score is spread, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelib.analysis.concentration import gini, lorenz, participation_ratio, share_held, top_share
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet

TABLES = st.lists(st.floats(0.001, 1e3), min_size=2, max_size=40).map(lambda values: [values])


def test_by_hand():
    """1, 2, 3, 4: the lower half holds 3 of 10; Gini is Σᵢ (2i − n − 1) sᵢ / (n Σ s) = (−3 − 2 + 3 + 12) / 40."""
    table = [[3.0, 1.0], [4.0, 2.0]]
    heads, held = lorenz(table)
    assert heads.tolist() == [0, 0.25, 0.5, 0.75, 1] and held.tolist() == pytest.approx([0, 0.1, 0.3, 0.6, 1])
    assert gini(table) == pytest.approx(10 / 40)
    assert participation_ratio(table) == pytest.approx(100 / (4 * 30))
    assert share_held(table, HeadSet("L0H0 L1H0")) == pytest.approx(0.7)


def test_ends():
    alike, alone = np.ones((3, 4)), np.zeros((3, 4))
    alone[1, 2] = 5
    assert gini(alike) == pytest.approx(0) and participation_ratio(alike) == pytest.approx(1)
    assert gini(alone) == pytest.approx(1 - 1 / 12) and participation_ratio(alone) == pytest.approx(1 / 12)


@given(TABLES, st.floats(0.01, 100))
def test_the_unit_does_not_matter(table, factor):
    scaled = (np.array(table) * factor).tolist()
    assert gini(scaled) == pytest.approx(gini(table), abs=1e-9)
    assert participation_ratio(scaled) == pytest.approx(participation_ratio(table))


@given(TABLES)
def test_the_curve_sags(table):
    heads, held = lorenz(table)
    assert (held <= heads + 1e-9).all() and (np.diff(held) >= -1e-12).all()
    assert (np.diff(held, 2) >= -1e-9).all() and 0 <= gini(table) + 1e-9 < 1
    assert 1 / len(table[0]) <= participation_ratio(table) + 1e-9 <= 1 + 2e-9


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([[-1.0, 2.0]], "not negative"),
        ([[0.0, 0.0]], "not all zero"),
        ([[float("nan"), 1.0]], "finite"),
        ([1.0, 2.0], "table"),
    ],
)
def test_bad_input(table, says):
    with pytest.raises(BadInput, match=says):
        gini(table)


def test_a_head_that_does_not_exist():
    with pytest.raises(BadInput, match="the model has"):
        share_held([[1.0, 2.0]], HeadSet("L3H0"))


def test_the_top_share_is_the_share_of_the_top():
    table = [[3.0, 1.0], [4.0, 2.0]]
    assert top_share(table, 0.5) == share_held(table, HeadSet("L0H0 L1H0")) == pytest.approx(0.7)
    assert top_share(table, 1) == pytest.approx(1) and top_share(table, 0.01) == pytest.approx(0.4)
    with pytest.raises(BadInput, match="fraction is 0"):
        top_share(table, 0)
