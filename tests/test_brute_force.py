"""Statistics and metrics against scipy, enumeration, or the formula written as a loop; and inputs that say nothing."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, norm, spearmanr

from corelib.analysis.agreement import rank_biased_overlap
from corelib.analysis.concentration import gini, participation_ratio
from corelib.analysis.controls import band, layer_matched, norm_matched, random_sets
from corelib.analysis.dose_response import D50, d50, half_dose
from corelib.analysis.layers import mean_depth
from corelib.analysis.nested_controls import LayerMatchedDoses
from corelib.analysis.overlap import overlap_within_groups, overlap_within_layers
from corelib.analysis.reliability import split_half
from corelib.analysis.stats import bootstrap_interval, wilson
from corelib.core.errors import BadInput
from corelib.core.heads import Head, HeadSet
from corelib.metrics import audit, box_hit, contrastive, entropy, lift, mass, output_norm, spatial_entropy, visual_share

SCORES = st.lists(st.integers(0, 50), min_size=2, max_size=24).filter(any)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9)), min_size=2, max_size=20), st.integers(0, 99))
def test_the_clustered_bootstrap_as_a_loop(drawn, seed):
    clusters, values = [name for name, _ in drawn], np.array([value for _, value in drawn])
    names = list(dict.fromkeys(clusters))
    if len(names) < 2:
        return
    weights = np.random.default_rng(seed).multinomial(len(names), [1 / len(names)] * len(names), size=50)
    means = []
    for weight in weights:
        sample = [
            value
            for name, times in zip(names, weight, strict=True)
            for value in values[np.array(clusters) == name].tolist() * times
        ]
        means.append(np.mean(sample))
    for kind in (np.float16, np.float64, np.int8):  # small whole numbers: the same in all of them
        found = bootstrap_interval(values.astype(kind), clusters, draws=50, seed=seed)
        np.testing.assert_allclose(found, np.quantile(means, [0.025, 0.975]), atol=1e-12)


@given(st.integers(1, 10**6), st.data(), st.floats(0.5, 0.999))
def test_wilson_solves_its_equation(n, data, level):
    """The ends are where |p̂ − p| = z √(p (1 − p) / n)."""
    successes = data.draw(st.integers(0, n))
    z = norm.ppf((1 + level) / 2)
    for end in wilson(successes, n, level):
        assert abs(successes / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-7)


def test_a_proportion_is_of_whole_numbers():
    for successes, n in ((2.7, 5), (2, 5.5), (math.nan, 5), (2, math.nan)):
        with pytest.raises(BadInput, match="successes"):
            wilson(successes, n)
    assert wilson(np.int64(2), np.int32(5)) == wilson(2, 5)
    for draws in (0, -1):
        with pytest.raises(BadInput, match="draws"):
            bootstrap_interval(np.arange(4.0), draws=draws)


def dose_by_hand(doses, accuracy, base, chance):
    """Pool neighbours that rise, then walk along the curve until the half."""
    blocks = []  # [mean, how many]
    for value in (base, *accuracy):
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (one, n), (two, m) = blocks[-2:]
            blocks[-2:] = [[(one * n + two * m) / (n + m), n + m]]
    fit = [mean for mean, count in blocks for _ in range(count)]
    half, places = (base + chance) / 2, [0.0, *doses]
    for k in range(1, len(fit)):
        if fit[k] <= half + 1e-9:
            return places[k] - (places[k] - places[k - 1]) * max(0.0, half - fit[k]) / (fit[k - 1] - fit[k])
    return math.inf


@given(st.lists(st.integers(0, 60), min_size=1, max_size=7), st.integers(11, 60))
def test_half_dose_by_pooling(counts, base):
    doses = np.linspace(0.1, 0.7, len(counts)).tolist()
    accuracy = [count / 60 for count in counts]
    found, expected = half_dose(doses, accuracy, base / 60, 10 / 60), dose_by_hand(doses, accuracy, base / 60, 10 / 60)
    assert found == pytest.approx(expected, abs=1e-6)
    if expected < math.inf:
        marks = np.tile(np.array(accuracy)[:, None], 8)
        assert d50(doses, marks, np.full(8, base / 60), 10 / 60).value == pytest.approx(expected, abs=1e-6)


def test_a_dose_that_is_no_number():
    for doses, accuracy in (
        ([0.1, 0.2], [0.5, math.nan]),
        ([0.1, math.nan], [0.5, 0.1]),
        ([0.1, math.inf], [0.5, 0.1]),
    ):
        with pytest.raises(BadInput, match=r"finite|rising"):
            half_dose(doses, accuracy, 0.9, 0.1)
    # A way to fall that is shorter than rounding is still a way: no dose before the first.
    assert half_dose([0.1, 0.3], [0.5, 0.0], 0.5 + 1e-12, 0.5) == pytest.approx(0.05, abs=0.06)
    assert str(D50(math.inf, 0.005, math.inf, 0.005)) == "> 0.5% [0.5%, > 0.5%]"


@given(st.permutations(range(7)), st.floats(0.05, 0.99))
def test_rank_biased_overlap_as_a_series(order, p):
    """The sum over 4,000 depths, both lists complete from the seventh on."""
    one, two = [Head(0, n) for n in range(7)], [Head(0, n) for n in order]
    series = sum((1 - p) * p ** (d - 1) * len({*one[:d]} & {*two[:d]}) / min(d, 7) for d in range(1, 4001))
    assert rank_biased_overlap(one, two, p) == pytest.approx(series, abs=1e-9)


@given(st.sets(st.integers(0, 7), min_size=1, max_size=5), st.sets(st.integers(0, 7), min_size=1, max_size=5))
def test_chance_within_layers_by_enumeration(one, two):
    """All sets with as many heads in each of two layers of four."""
    one, two = (HeadSet(divmod(number, 4) for number in each) for each in (one, two))
    parts = [combinations([(layer, k) for k in range(4)], len(mine)) for layer, mine in two.by_layer().items()]
    shared = [len(one & HeadSet(sum(part, ()))) for part in product(*parts)]
    found = overlap_within_layers(one, two, 2, 4)
    assert found.expected == pytest.approx(np.mean(shared))
    assert found.chance == pytest.approx(np.mean(np.array(shared) >= len(found.shared)))


@given(st.sets(st.integers(0, 11), min_size=1, max_size=6), st.sets(st.integers(0, 11), min_size=1, max_size=6))
def test_chance_within_groups_by_enumeration(one, two):
    """All orders of the three groups of each of two layers, and of the two heads in each group."""
    one, two = (HeadSet(divmod(number, 6) for number in each) for each in (one, two))
    moves = [
        [2 * groups[head // 2] + (head + flips[head // 2]) % 2 for head in range(6)]
        for groups in permutations(range(3))
        for flips in product((0, 1), repeat=3)
    ]
    parts = [
        [len(set(one.by_layer().get(layer, ())) & {move[head] for head in mine}) for move in moves]
        for layer, mine in two.by_layer().items()
    ]
    shared = np.array([sum(each) for each in product(*parts)])
    found = overlap_within_groups(one, two, 2, 6, 3)
    assert found.expected == pytest.approx(shared.mean())
    assert found.chance == pytest.approx((shared >= len(found.shared)).mean())
    assert found.least == pytest.approx((shared == shared.max()).mean())


def test_split_half_as_a_loop():
    values = np.random.default_rng(1).integers(0, 4, (9, 2, 5))
    generator, correlations, jaccards = np.random.default_rng(5), [], []
    for _ in range(6):
        order = generator.permutation(9)
        halves = [values[order[:5]].mean(0).ravel(), values[order[5:]].mean(0).ravel()]
        correlations.append(spearmanr(*halves).statistic)
        tops = [{*sorted(range(10), key=lambda k, half=half: (-half[k], k))[:3]} for half in halves]
        jaccards.append(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))
    for kind in (np.float64, np.float16, np.int8, np.uint8):
        found = split_half(values.astype(kind), fraction=0.3, splits=6, seed=5)
        assert (found.halves, found.jaccard) == pytest.approx((np.mean(correlations), np.mean(jaccards)))


def test_a_reliability_of_nothing():
    values = np.random.default_rng(0).random((8, 1, 4))
    with pytest.raises(BadInput, match="splits"):
        split_half(values, splits=0)
    values[3, 0, 2] = np.nan
    with pytest.raises(BadInput, match="finite"):
        split_half(values)


def test_layer_matched_sets_are_all_as_likely():
    tested = HeadSet("L0H0 L1H1 L1H2")
    every = layer_matched(tested, 2, 5, draws=4 * 3)
    assert len(set(every)) == 12
    drawn = Counter(str(one) for seed in range(250) for one in layer_matched(tested, 2, 5, draws=11, seed=seed))
    assert set(drawn) == {str(one) for one in every} and chisquare([*drawn.values()]).pvalue > 1e-4
    at_dose = Counter(str(LayerMatchedDoses.draw([*tested], 2, 5, seed).at(3)) for seed in range(1200))
    assert set(at_dose) == set(drawn) and chisquare([*at_dose.values()]).pvalue > 1e-4


def test_controls_of_nothing():
    tested, norms = HeadSet("L0H0"), [[1.0, 2.0], [3.0, 4.0]]
    for draws in (0, -3):
        for call in (
            lambda draws=draws: random_sets(tested, 2, 2, draws=draws),
            lambda draws=draws: layer_matched(tested, 2, 2, draws=draws),
            lambda draws=draws: norm_matched(tested, norms, draws=draws),
        ):
            with pytest.raises(BadInput, match="draws"):
                call()
    with pytest.raises(BadInput, match="near"):
        norm_matched(tested, norms, draws=1, near=0)
    order = [*HeadSet.all(2, 2)]
    for count in (-1, 5):
        with pytest.raises(BadInput, match="first"):
            LayerMatchedDoses.draw(order, 2, 2, 0).at(count)
    with pytest.raises(BadInput, match="twice"):
        LayerMatchedDoses.draw([order[0], order[0]], 2, 2, 0)
    with pytest.raises(BadInput, match="no head"):
        band(order, 0.3, 0.4)  # both ends are the second head


@given(SCORES)
def test_concentration_by_pairs(values):
    """Gini is the mean difference of two heads over twice the mean."""
    table, n = np.array([values], dtype=float), len(values)
    pairs = sum(abs(one - two) for one in values for two in values)
    assert gini(table) == pytest.approx(pairs / (2 * n * sum(values)), abs=1e-12)
    expected = sum(values) ** 2 / (n * sum(value**2 for value in values))
    for unit in (1.0, 1e-200, 1e150):
        assert participation_ratio(table * unit) == pytest.approx(expected)


@given(st.lists(SCORES, min_size=2, max_size=5))
def test_mean_depth_as_a_loop(rows):
    heads = min(map(len, rows))
    table = [row[:heads] for row in rows]
    if not any(map(any, table)):
        return
    total = sum(map(sum, table))
    expected = sum(layer / (len(table) - 1) * sum(row) for layer, row in enumerate(table)) / total
    assert mean_depth(table) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(BadInput, match="layers"):
        mean_depth([1.0, 2.0])


@given(st.integers(2, 12), st.integers(0, 999), st.sampled_from([torch.float64, torch.float32]))
def test_shares_as_a_loop(keys, seed, kind):
    make = torch.Generator().manual_seed(seed)
    attention = torch.rand(1, 2, 3, keys, generator=make, dtype=kind)
    visual = torch.rand(1, keys, generator=make) < 0.7
    visual[0, :2] = True
    evidence = visual & (torch.rand(1, keys, generator=make) < 0.4)
    evidence[0, 0] = True
    share, times = visual_share(attention, evidence, visual), lift(attention, evidence, visual)
    for head, row in product(range(2), range(3)):
        weights = attention[0, head, row].tolist()
        seen = sum(weight for weight, marked in zip(weights, visual[0].tolist(), strict=True) if marked)
        read = sum(weight for weight, marked in zip(weights, evidence[0].tolist(), strict=True) if marked)
        assert share[0, head, row].item() == pytest.approx(read / seen, rel=1e-4)
        uniform = evidence.sum().item() / visual.sum().item()
        assert times[0, head, row].item() == pytest.approx(read / seen / uniform, rel=1e-4)


HALVES = pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])


@HALVES
def test_halves_are_added_up_in_single_precision(kind):
    """4,000 keys of 1/4096 each, exact in half precision: their sum is not to be rounded to it."""
    attention = torch.full((1, 1, 1, 4095), 1 / 4096, dtype=kind)
    every = torch.ones(1, 4095, dtype=torch.bool)
    assert mass(attention, every).dtype == torch.float32
    assert mass(attention, every).item() == pytest.approx(4095 / 4096, abs=1e-7)
    assert entropy(attention, every).item() == pytest.approx(1, abs=1e-6)
    one, two = torch.arange(4095) < 2047, torch.arange(4095) >= 2047
    found = contrastive(attention, one[None], two[None, None], temperature=0.001)
    assert found.item() == pytest.approx(1 / (1 + math.exp(1 / 4.096)), rel=1e-4)
    values = torch.ones(1, 1, 4095, 2, dtype=kind)
    assert output_norm(attention, values).item() == pytest.approx(4095 / 4096 * 2**0.5, rel=1e-5)


def test_what_is_not_a_number_does_not_become_one():
    attention = torch.tensor([[[[0.5, torch.nan, 0.2]]]])
    evidence, visual = torch.tensor([[True, False, False]]), torch.tensor([[True, True, False]])
    for found in (visual_share(attention, evidence, visual), entropy(attention, visual), box_hit(attention, evidence)):
        assert found.isnan().all()
    with pytest.raises(BadInput, match="finite"):
        audit(np.array([[np.nan, 0.1]]), np.ones((1, 2)))
    with pytest.raises(BadInput, match="finite"):
        audit(np.ones((1, 2)), np.array([[np.nan, 0.1]]))


@given(st.integers(1, 40), st.integers(1, 5), st.floats(0.001, 1), st.sampled_from([np.float32, np.float64]))
def test_a_flat_map_points_nowhere(rows, columns, value, kind):
    """Whatever its rounding: it is not one patch, the most pointed map of all."""
    flat = np.full((2, rows, columns), value, dtype=kind)
    assert np.isinf(spatial_entropy([flat, flat[:, :1]])).all()
    flat[1, 0, 0] *= 2
    if rows * columns > 1:
        assert np.isfinite(spatial_entropy([flat])).tolist() == [False, True]
