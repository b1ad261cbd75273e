"""Dose and response, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelib.analysis.dose_response import DOSES, d50, d50_ratio, half_dose
from corelib.analysis.stats import p_value, p_value_of_counts
from corelib.core.errors import BadInput


def test_by_hand():
    """Base 0.9, chance 0.1: the half is 0.5, a quarter of the way from 0.6 to 0.2 between doses 0.1 and 0.3."""
    assert half_dose([0.1, 0.3], [0.6, 0.2], 0.9, 0.1) == pytest.approx(0.15)
    # A rise is noise: 0.4 and 0.6 become 0.5 and 0.5, which is just reached, at the first of the two.
    assert half_dose([0.1, 0.2, 0.3], [0.4, 0.6, 0.1], 0.9, 0.1) == pytest.approx(0.1)
    assert half_dose([0.1], [0.51], 0.9, 0.1) == math.inf


@given(st.lists(st.floats(0, 1), min_size=len(DOSES), max_size=len(DOSES)), st.floats(0.05, 0.4))
def test_worse_answers_never_need_more_heads(accuracy, less):
    found = half_dose(DOSES, accuracy, 1.0, 0.0)
    assert 0 <= found <= DOSES[-1] or found == math.inf
    assert half_dose(DOSES, [max(0.0, value - less) for value in accuracy], 1.0, 0.0) <= found + 1e-9


def outcomes(chances, samples=400, seed=0):
    return (np.random.default_rng(seed).random((len(chances), samples)) < np.array(chances)[:, None]).astype(float)


def test_intervals_hold_the_truth_and_ratios_are_paired():
    doses, base = [0.1, 0.2, 0.4], np.ones(400)
    steep, flat = outcomes([0.5, 0.1, 0.1]), outcomes([0.9, 0.8, 0.7], seed=1)
    found = d50(doses, steep, base, 0.0)
    assert found.low < 0.1 < found.high and found.low <= found.value <= found.high and found.high < 0.15
    nothing = d50(doses, flat, base, 0.0)
    assert nothing.value == nothing.low == math.inf and str(nothing) == "> 40% [> 40%, > 40%]"
    ratio = d50_ratio(doses, steep, flat, base, 0.0)  # at most: the other may lie beyond 40 %
    assert ratio.value == pytest.approx(found.value / 0.4) and ratio.high < 0.5
    assert d50_ratio(doses, flat, steep, base, 0.0).value == math.inf
    same = d50_ratio(doses, steep, steep, base, 0.0)
    assert (same.value, same.low, same.high) == (1, 1, 1)


def test_where_a_null_leaves_an_effect():
    assert p_value(0.5, [0.1, 0.2, 0.3]) == pytest.approx(1 / 4)
    assert p_value(0.2, [0.1, 0.2, 0.3]) == pytest.approx(3 / 4)
    with pytest.raises(BadInput, match="not finite"):
        p_value(math.nan, [0.1])
    with pytest.raises(BadInput, match="no draws"):
        p_value(0.1, [])


def test_equal_losses_are_ties():
    """58 of 60 right, 56 without the heads, 56 with each of nine other sets gone: all of them do as much."""
    assert p_value(2 / 60, np.float64(58) / 60 - np.array([56 / 60] * 9)) == 1
    assert p_value(0.1, [0.1 + 1e-15, 0.1 - 1e-15, 0.1 - 1e-8]) == pytest.approx(3 / 4)
    assert p_value_of_counts(56, [56] * 9) == 1
    assert p_value_of_counts(56, [55, 56, 57, 60]) == pytest.approx(3 / 5)
    for tested, null, says in ((-1, [3], "whole numbers"), (2.5, [3], "whole numbers"), (3, [2.5], "whole numbers")):
        with pytest.raises(BadInput, match=says):
            p_value_of_counts(tested, null)
    with pytest.raises(BadInput, match="no draws"):
        p_value_of_counts(3, [])


@given(st.data(), st.integers(1, 600))
def test_losses_of_accuracy_are_compared_as_counts_are(data, samples):
    """Whatever the number of samples: the loss as a mean of differences, the null as differences of means."""
    right = st.integers(0, samples)
    base, tested, null = data.draw(right), data.draw(right), data.draw(st.lists(right, min_size=1, max_size=20))
    null = [*null, tested]
    marks = (np.arange(samples) < base).astype(float) - (np.arange(samples) < tested)
    brute = (1 + sum(base - one >= base - tested for one in null)) / (1 + len(null))
    assert p_value(marks.mean(), np.float64(base) / samples - np.array(null) / samples) == brute
    assert p_value_of_counts(tested, null) == brute


@pytest.mark.parametrize(
    ("doses", "accuracy", "base", "says"),
    [
        ([0.2, 0.1], [0.5, 0.5], 0.9, "rising"),
        ([0.1], [0.5, 0.4], 0.9, "one a dose"),
        ([], [], 0.9, "one a dose"),
        ([0.1], [0.5], 0.1, "not above chance"),
    ],
)
def test_bad_curves(doses, accuracy, base, says):
    with pytest.raises(BadInput, match=says):
        half_dose(doses, accuracy, base, 0.1)


def test_outcomes_that_are_none():
    with pytest.raises(BadInput, match=r"\[dose, sample\]"):
        d50([0.1], np.array([[np.nan, 1.0]]), np.ones(2), 0.0)
    with pytest.raises(BadInput, match=r"\[dose, sample\]"):
        d50([0.1], np.ones((2, 2)), np.ones(2), 0.0)
