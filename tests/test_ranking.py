"""Rankings compared, by hand."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelib.errors import BadInput
from corelib.heads import HeadScores, HeadSet
from corelib.ranking import by_layer, overlap, overlap_within_layers, share, spearman, spearman_within_layers


def scores(table) -> HeadScores:
    table = np.array(table, dtype=float)
    return HeadScores(
        model={"name": "m", "sha256": "", "layers": table.shape[0], "heads": table.shape[1], "kv_heads": 1},
        task={"domain": "scenes", "split": "select", "seed": 0, "samples": 2, "accuracy": 0.5},
        metric={"name": "ram", "variant": "raw", "rows": "answer", "reduce": "mean"},
        scores=table.tolist(),
        interval={"level": 0.95, "low": table.tolist(), "high": table.tolist()},
    )


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


def test_share_and_layers():
    table = scores([[0.1, 0.2], [0.3, 0.4]])
    assert share(table, HeadSet("L1H1")) == pytest.approx(0.4) and share(table, HeadSet.all(2, 2)) == pytest.approx(1)
    assert by_layer(table).tolist() == pytest.approx([0.15, 0.35])


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
    with pytest.raises(BadInput, match="not negative"):
        share(scores([[-1, 2]]), HeadSet("L0H0"))
    with pytest.raises(BadInput, match="the model has"):
        share(scores([[1, 2]]), HeadSet("L3H0"))
