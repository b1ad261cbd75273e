"""Rankings compared, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import some_scores as scores

from corelib.analysis.agreement import (
    compare_heads,
    correlation_within_groups,
    rank_biased_overlap,
    spearman,
    spearman_within_layers,
)
from corelib.analysis.layers import layer_means, mean_depth
from corelib.analysis.overlap import overlap, overlap_within_groups, overlap_within_layers
from corelib.analysis.reliability import split_half
from corelib.core.errors import BadInput
from corelib.core.heads import Head, HeadSet


def test_overlap_by_hand():
    """Two pairs out of 8 heads share one: 1 of 3 in the union; chance shares 0.5, and at least one 13 times in 28."""
    found = overlap(HeadSet("L0H0 L0H1"), HeadSet("L0H1 L1H0"), heads=8)
    assert found.shared == HeadSet("L0H1") and found.jaccard == pytest.approx(1 / 3)
    assert found.expected == pytest.approx(2 * 2 / 8)
    assert found.chance == pytest.approx(1 - comb(6, 2) / comb(8, 2)) == 13 / 28
    assert str(found) == "1 shared, 0.5 by chance"


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 999))
def test_overlap_is_symmetric_and_certain_at_none(k, m, seed):
    rng = np.random.default_rng(seed)
    one, two = (HeadSet((0, int(h)) for h in rng.choice(12, n, replace=False)) for n in (k, m))
    there, back = overlap(one, two, 12), overlap(two, one, 12)
    assert there.shared == back.shared and there.chance == pytest.approx(back.chance)
    assert 0 <= there.jaccard <= 1 and (there.chance == pytest.approx(1) or len(there.shared) > 0)


def test_spearman_sees_order_only():
    one = scores([[0.1, 0.2], [0.3, 0.4]])
    assert spearman(one, scores([[1, 4], [9, 16]])) == pytest.approx(1)
    assert spearman(one, scores([[4, 3], [2, 1]])) == pytest.approx(-1)
    assert spearman(one, scores([[2, 1], [3, 4]])) == pytest.approx(1 - 6 * 2 / (4 * 15))  # 1 − 6Σd²/(n(n²−1))


def test_overlap_within_layers_by_hand():
    """Both sets have 2 of the 4 heads of layer 0, and share 1: by chance they share 2·2/4 = 1, and none in 1 of 6
    draws. That one of them has heads in another layer too changes nothing."""
    found = overlap_within_layers(HeadSet("L0H0 L0H1"), HeadSet("L0H1 L0H2 L1H3"), 2, 4)
    assert found.shared == HeadSet("L0H1") and found.expected == pytest.approx(1)
    assert found.chance == pytest.approx(5 / 6)
    apart = overlap_within_layers(HeadSet("L0H0"), HeadSet("L1H0"), 2, 4)
    assert apart.expected == 0 and apart.chance == pytest.approx(1)


@given(st.integers(1, 11), st.integers(1, 11), st.integers(0, 999))
def test_chance_within_layers_is_that_of_draws(k, m, seed):
    rng = np.random.default_rng(seed)
    one, two = ((HeadSet(divmod(int(h), 4) for h in rng.choice(12, n, replace=False))) for n in (k, m))
    found = overlap_within_layers(one, two, 3, 4)
    drawn = []
    for _ in range(400):
        moved = HeadSet(
            (layer, int(h)) for layer, mine in two.by_layer().items() for h in rng.choice(4, len(mine), replace=False)
        )
        drawn.append(len(one & moved))
    assert np.mean(drawn) == pytest.approx(found.expected, abs=0.25)
    assert np.mean(np.array(drawn) >= len(found.shared)) == pytest.approx(found.chance, abs=0.12)


def test_agreement_on_layers_alone_is_none_within_them():
    """Layer 1 scores high under both, but in each layer the order is turned round."""
    one, two = scores([[1, 2, 3], [7, 8, 9]]), scores([[3, 2, 1], [9, 8, 7]])
    assert spearman(one, two) > 0.5
    assert spearman_within_layers(one, two) == pytest.approx(-1)
    assert spearman_within_layers(one, one) == pytest.approx(1)


def test_groups_by_hand():
    """Two heads of one group, twice: draws share both if they take that group, 1 of 3; blind to groups, 1 of 15."""
    pair = HeadSet("L0H0 L0H1")
    found = overlap_within_groups(pair, pair, 1, 6, 3)
    assert found.chance == pytest.approx(1 / 3) == found.least and found.expected == pytest.approx(2 / 3)
    assert overlap_within_layers(pair, pair, 1, 6).chance == pytest.approx(1 / 15)
    assert overlap_within_groups(pair, HeadSet("L1H0"), 2, 6, 3).least == 1  # they can share nothing
    with pytest.raises(BadInput, match="divides"):
        overlap_within_groups(pair, pair, 1, 6, 4)


def test_correlation_within_groups():
    """Whole groups that agree: of all 2!² · 2!⁴ = 64 draws, those that keep both orders of groups do as well."""
    one = replace_kv(scores([[1, 1, 9, 9], [1, 1, 9, 9]]), 2)
    value, p = correlation_within_groups(one, one, draws=2000)
    assert value == pytest.approx(1) and p == pytest.approx(1 / 4, abs=0.03)
    apart = replace_kv(
        scores([[1, 1, 9, 9], [1, 1, 9, 9]]), 1
    )  # any order of four: two 9 in their places, 1 of 6 a layer
    assert correlation_within_groups(apart, apart, draws=2000)[1] == pytest.approx(1 / 36, abs=0.01)
    with pytest.raises(BadInput, match="key/value heads"):
        correlation_within_groups(one, apart)


def replace_kv(one, kv_heads):
    return replace(one, model=replace(one.model, num_kv_heads=kv_heads))


def test_layers():
    assert layer_means(scores([[0.1, 0.2], [0.3, 0.4]])).tolist() == pytest.approx([0.15, 0.35])


def test_mean_depth():
    """Sums of 0.3 at depth 0, 0.7 at depth 1; and three layers that hold the same."""
    assert mean_depth(scores([[0.1, 0.2], [0.3, 0.4]])) == pytest.approx(0.7)
    assert mean_depth(np.ones((3, 4))) == pytest.approx(0.5)
    for table in ([[1.0, 2.0]], [[0.0], [0.0]], [[-1.0], [2.0]], [[np.nan], [1.0]]):
        with pytest.raises(BadInput, match="two layers or more"):
            mean_depth(table)


A, B, C = Head(0, 0), Head(0, 1), Head(0, 2)


def test_rank_biased_overlap_by_hand():
    """A B C against C A B: nothing is shared at depth 1, one of two at depth 2, all at depth 3 and for ever after."""
    expected = (1 - 0.8) * (0 + 0.8 * 1 / 2 + 0.8**2) + 0.8**3
    assert rank_biased_overlap([A, B, C], [C, A, B], p=0.8) == pytest.approx(expected)
    with pytest.raises(BadInput, match="same heads"):
        rank_biased_overlap([A, B], [A, C])
    with pytest.raises(BadInput, match="same heads"):
        rank_biased_overlap([A, A], [A, A])
    with pytest.raises(BadInput, match="persistence"):
        rank_biased_overlap([A, B], [A, B], p=1.0)


@given(st.permutations(range(8)), st.floats(0.1, 0.95))
def test_rank_biased_overlap_is_symmetric_and_cares_for_the_top(order, p):
    one, two = [Head(0, n) for n in range(8)], [Head(0, n) for n in order]
    there = rank_biased_overlap(one, two, p)
    assert there == pytest.approx(rank_biased_overlap(two, one, p)) and 0 <= there <= 1 + 1e-9
    assert (there == pytest.approx(1)) == (one == two)
    first, last = [one[1], one[0], *one[2:]], [*one[:6], one[7], one[6]]
    assert rank_biased_overlap(one, first, p) < rank_biased_overlap(one, last, p)


def test_a_ranking_agrees_with_itself_as_far_as_its_samples_do():
    rng = np.random.default_rng(0)
    truth = np.arange(40.0).reshape(1, 4, 10)
    exact, noisy = (split_half(truth + noise * rng.normal(size=(32, 4, 10))) for noise in (0, 30))
    assert exact.halves == exact.whole == exact.jaccard == pytest.approx(1)
    assert 0.3 < noisy.halves < noisy.whole < 1
    assert noisy.whole == pytest.approx(2 * noisy.halves / (1 + noisy.halves))
    nothing = split_half(rng.normal(size=(64, 4, 10)))
    assert abs(nothing.halves) < 0.25
    with pytest.raises(BadInput, match="at least 4 samples"):
        split_half(truth)
    with pytest.raises(BadInput, match="no ranking"):
        split_half(np.ones((8, 2, 2)))


def test_two_models_are_not_compared_by_accident():
    one, two = scores([[1, 2], [4, 3]]), scores([[1, 2], [3, 4]])
    found = compare_heads(one, two, 0.25)
    assert found.spearman == spearman(one, two) and found.top.shared == HeadSet()
    other = replace(two, model=replace(two.model, name="n", sha256="b" * 64))
    with pytest.raises(BadInput, match="another model is another head"):
        compare_heads(one, other)
    assert compare_heads(one, other, same_model=False).spearman == found.spearman


def test_bad_input():
    with pytest.raises(BadInput, match="not empty and fit"):
        overlap(HeadSet(), HeadSet("L0H0"), 4)
    with pytest.raises(BadInput, match="not empty and fit"):
        overlap(HeadSet("L0H0"), HeadSet("L0H1"), 1)
    with pytest.raises(BadInput, match="2×2 and 1×4"):
        spearman(scores([[1, 2], [3, 4]]), scores([[1, 2, 3, 4]]))
    with pytest.raises(BadInput, match="no ranking"):
        spearman(scores([[1, 1]]), scores([[1, 2]]))
    with pytest.raises(BadInput, match="within layers"):
        spearman_within_layers(scores([[1, 1], [2, 2]]), scores([[1, 2], [3, 4]]))
    with pytest.raises(BadInput, match="the model has"):
        overlap_within_layers(HeadSet("L0H5"), HeadSet("L0H0"), 2, 4)


def test_plain_tables_are_compared_as_well():
    """Scores of training runs are tables, without a window's reach."""
    one = np.arange(6.0).reshape(2, 3)
    assert spearman(one, one**2) == pytest.approx(1) and spearman(one, -one) == pytest.approx(-1)
