"""Intervals that cover what they say, and that know that questions about one picture are not independent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelib.analysis.stats import bootstrap_interval, holm, wilson
from corelib.core.errors import BadInput


def test_shapes_seeds_and_order():
    values = np.random.default_rng(0).random((40, 3, 2))
    low, high = bootstrap_interval(values)
    assert low.shape == high.shape == (3, 2)
    assert (low < values.mean(0)).all()
    assert (values.mean(0) < high).all()
    again = bootstrap_interval(values)
    assert np.array_equal(low, again[0])
    assert not np.array_equal(low, bootstrap_interval(values, seed=1)[0])
    narrow = bootstrap_interval(values, level=0.5)
    assert (narrow[0] >= low).all()
    assert (narrow[1] <= high).all()


def test_it_agrees_with_the_normal_interval():
    values = np.random.default_rng(0).normal(size=(400, 1))
    low, high = bootstrap_interval(values, draws=4000)
    half = 1.96 * values.std() / 20
    assert (high - low)[0] / 2 == pytest.approx(half, rel=0.05)


def test_it_is_the_loop_written_as_a_matrix_product():
    """The same multinomial draws, one at a time, with clusters of unequal size."""
    generator = np.random.default_rng(3)
    values, clusters = generator.random(12), [0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4, 4]
    weights = np.random.default_rng(7).multinomial(5, np.full(5, 0.2), size=200)
    means = [values @ weight[clusters] / weight[clusters].sum() for weight in weights]
    low, high = bootstrap_interval(values, clusters, draws=200, seed=7)
    np.testing.assert_allclose([low, high], np.quantile(means, [0.025, 0.975]))


def test_a_statistic_of_the_mean():
    """exp is monotone, so the interval of exp(mean) is exp of the mean's."""
    values = np.random.default_rng(0).random((40, 3))
    low, high = bootstrap_interval(values, draws=201)
    ends = bootstrap_interval(values, draws=201, statistic=np.exp)
    np.testing.assert_allclose(ends, np.exp([low, high]), rtol=1e-3)
    total = bootstrap_interval(values, statistic=np.sum)
    assert total[0] < values.mean(0).sum() < total[1]


def test_copies_of_a_sample_do_not_narrow_the_interval():
    values = np.random.default_rng(0).random(30)
    alone = bootstrap_interval(values)
    copies = np.repeat(values, 5)
    np.testing.assert_allclose(bootstrap_interval(copies, np.repeat(np.arange(30), 5)), alone)
    naive = bootstrap_interval(copies)
    assert naive[1] - naive[0] < 0.7 * (alone[1] - alone[0])


def test_coverage():
    """About 95 of 100 intervals hold the true mean, with 40 clusters of 3."""
    hits = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        values = np.repeat(generator.normal(size=40), 3) + 0.3 * generator.normal(size=120)
        low, high = bootstrap_interval(values, np.repeat(np.arange(40), 3), draws=300, seed=trial)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_wilson_holds_the_proportion(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1
    wider = wilson(successes, n, level=0.99)
    assert wider[0] <= low
    assert high <= wider[1]


def test_wrong_questions():
    with pytest.raises(BadInput, match="2 samples, but 1 cluster"):
        bootstrap_interval(np.ones(2), ["a"])
    with pytest.raises(BadInput, match="at least two"):
        bootstrap_interval(np.ones(2), ["a", "a"])
    with pytest.raises(BadInput, match="0 cluster"):
        bootstrap_interval(np.ones((0, 3)))
    with pytest.raises(BadInput, match="not finite"):
        bootstrap_interval(np.array([1.0, np.nan]))
    with pytest.raises(BadInput, match="level"):
        bootstrap_interval(np.ones(2), level=95)
    for successes, n in [(3, 2), (-1, 2), (0, 0)]:
        with pytest.raises(BadInput, match="successes"):
            wilson(successes, n)
    with pytest.raises(BadInput, match="level"):
        wilson(1, 2, level=1)


def test_holm_by_hand():
    """Sorted .01 .02 .04: times 3, 2, 1, and none below a smaller one's."""
    assert holm([0.04, 0.01, 0.02]).tolist() == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]).tolist() == [1, 1] and holm([0.2]).tolist() == [0.2]
    for given_ in ([], [1.2], [np.nan]):
        with pytest.raises(BadInput, match="p-values lie in"):
            holm(given_)
