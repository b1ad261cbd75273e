"""Controls: as many other heads, where they should be, and drawn fairly."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from corelib.analysis.controls import band, layer_matched, lowest, next_ranked, norm_matched, random_sets
from corelib.analysis.kv_controls import kv_matched
from corelib.analysis.nested_controls import LayerMatchedDoses
from corelib.core.errors import BadInput
from corelib.core.heads import Head, HeadSet, top_count

LAYERS, HEADS = 4, 6
ORDERS = st.permutations(list(HeadSet.all(LAYERS, HEADS)))


def per_layer(heads: HeadSet) -> Counter:
    return Counter(head.layer for head in heads)


@given(ORDERS, st.integers(1, 12))
def test_bands_cut_the_ranking_without_overlap(order, count):
    fraction = count / len(order)
    top, after, bottom = HeadSet(order[:count]), next_ranked(order, fraction), lowest(order, fraction)
    assert len(top) == len(after) == len(bottom) == count and not top & after and not top & bottom
    assert band(order, 0, fraction) == top and band(order, 0, 1) == HeadSet(order)
    assert set(bottom) == set(order[-count:])


@given(ORDERS, st.integers(1, 12), st.integers(0, 9))
@settings(max_examples=40)
def test_draws_are_as_many_other_heads(order, count, seed):
    tested = HeadSet(order[:count])
    for one in random_sets(tested, LAYERS, HEADS, draws=5, seed=seed):
        assert len(one) == count and not one & tested
    assert random_sets(tested, LAYERS, HEADS, draws=5, seed=seed) == random_sets(
        tested, LAYERS, HEADS, draws=5, seed=seed
    )
    if max(per_layer(tested).values()) <= HEADS // 2:
        for one in layer_matched(tested, LAYERS, HEADS, draws=5, seed=seed):
            assert per_layer(one) == per_layer(tested) and not one & tested
    else:
        with pytest.raises(BadInput, match="no disjoint control"):
            layer_matched(tested, LAYERS, HEADS, draws=5, seed=seed)


def test_few_sets_are_listed_and_many_are_drawn_fairly():
    tested = HeadSet("L0H0 L2H1 L2H2")
    every = layer_matched(tested, LAYERS, HEADS, draws=5 * 6)
    assert len(every) == len(set(every)) == 5 * 6  # one of five others in layer 0, two of four in layer 2
    drawn = Counter(head for one in layer_matched(tested, LAYERS, HEADS, draws=29, seed=3) for head in one)
    assert sum(drawn.values()) == 29 * 3
    often = Counter(
        head for seed in range(100) for one in layer_matched(tested, LAYERS, HEADS, draws=29, seed=seed) for head in one
    )
    for head, times in often.items():
        assert times / 2900 == pytest.approx(1 / 5 if head.layer == 0 else 2 / 4, abs=0.05)


def losses(heads: HeadSet, size: int) -> list:
    """Of each layer, how many heads its groups lose, whichever group that is."""
    groups = Counter((head.layer, head.index // size) for head in heads)
    return sorted((layer, count) for (layer, _), count in groups.items())


def test_kv_matched_by_hand():
    """Layer 2 loses one of a pair: its partner, or one of six others. Layer 4 loses a pair: one of three others."""
    tested = HeadSet("L2H3 L4H0 L4H1")
    every = kv_matched(tested, 6, 8, 4, draws=21)
    assert len(every) == len(set(every)) == 7 * 3
    assert {str(one) for one in every} == {
        f"L2H{one} L4H{2 * pair} L4H{2 * pair + 1}" for one in (0, 1, 2, 4, 5, 6, 7) for pair in (1, 2, 3)
    }
    drawn = Counter(str(one) for seed in range(60) for one in kv_matched(tested, 6, 8, 4, draws=20, seed=seed))
    assert set(drawn) == {str(one) for one in every} and chisquare([*drawn.values()]).pvalue > 1e-4
    assert kv_matched(tested, 6, 8, 4, draws=20, seed=3) == kv_matched(tested, 6, 8, 4, draws=20, seed=3)
    assert {*kv_matched(tested, 6, 8, 8, draws=999)} == {*layer_matched(tested, 6, 8, draws=999)}  # no head is shared
    many = HeadSet((0, index) for index in range(0, 64, 5))
    assert all(losses(one, 1) == losses(many, 1) for one in kv_matched(many, 1, 64, 64, draws=3))  # and in no time
    for kv_heads, says in ((1, "no disjoint control"), (3, "divides"), (0, "divides")):
        with pytest.raises(BadInput, match=says):
            kv_matched(HeadSet("L0H0 L0H1 L0H2 L0H3 L0H4"), 1, 8, kv_heads, draws=5)


@given(st.sets(st.integers(0, 11), min_size=1, max_size=6), st.sampled_from([1, 2, 3, 6]))
def test_kv_matched_is_every_set_that_loses_alike(numbers, kv_heads):
    tested, size = HeadSet(divmod(number, 6) for number in numbers), 6 // kv_heads
    alike = {
        HeadSet(one)
        for one in combinations(HeadSet.all(2, 6) - tested, len(tested))
        if losses(HeadSet(one), size) == losses(tested, size)
    }
    if not alike:
        with pytest.raises(BadInput, match="no disjoint control"):
            kv_matched(tested, 2, 6, kv_heads, draws=5)
        return
    every = kv_matched(tested, 2, 6, kv_heads, draws=100_000)
    assert set(every) == alike and len(every) == len(alike)
    assert set(kv_matched(tested, 2, 6, kv_heads, draws=1)) <= alike


@given(ORDERS, st.integers(0, 9))
@settings(max_examples=40)
def test_doses_nest_but_for_heads_that_are_tested(order, seed):
    doses, before = LayerMatchedDoses.draw(order, LAYERS, HEADS, seed), HeadSet()
    for count in range(1, len(order) + 1):
        tested, control = HeadSet(order[:count]), doses.at(count)
        possible = max(per_layer(tested).values()) <= HEADS // 2
        assert (control is not None) == possible
        if not possible:
            break
        assert per_layer(control) == per_layer(tested) and not control & tested
        assert set(before) - set(tested) <= set(control)
        before = control


def test_one_dose_is_a_uniform_draw():
    order = [Head(0, 3), Head(0, 1), Head(1, 0)]
    drawn = Counter(str(LayerMatchedDoses.draw(order, 2, 4, seed).at(2)) for seed in range(300))
    assert set(drawn) == {"L0H0 L0H2"}
    one = Counter(str(LayerMatchedDoses.draw(order, 2, 4, seed).at(1)) for seed in range(600))
    assert set(one) == {"L0H0", "L0H1", "L0H2"} and min(one.values()) > 150


def test_norms_are_matched():
    norms = np.arange(LAYERS * HEADS, dtype=float).reshape(LAYERS, HEADS)
    tested = HeadSet("L3H5 L0H0")
    for one in norm_matched(tested, norms, draws=20, near=2):
        quiet, loud = sorted(norms[head.layer, head.index] for head in one)
        assert quiet in (1, 2) and loud in (21, 22) and not one & tested
    alone = norm_matched(tested, norms, draws=1, near=1)
    assert alone == [HeadSet("L0H1 L3H4")]
    for table, says in (([1.0, 2.0], "table"), ([[np.nan, 1.0]], "finite")):
        with pytest.raises(BadInput, match=says):
            norm_matched(HeadSet("L0H0"), table, draws=1)


def test_what_cannot_be_is_refused():
    order = list(HeadSet.all(2, 2))
    for call in (
        lambda: random_sets(HeadSet(), 2, 2, draws=1),
        lambda: layer_matched(HeadSet(), 2, 2, draws=1),
        lambda: random_sets(HeadSet("L5H0"), 2, 2, draws=1),
        lambda: random_sets(HeadSet(order[:3]), 2, 2, draws=1),
        lambda: next_ranked(order, 0.75),
        lambda: lowest(order, 0.75),
        lambda: band(order, 0.5, 0.5),
        lambda: band(order, 0, 2),
    ):
        with pytest.raises(BadInput):
            call()
    assert top_count(0.75, 4) == 3
