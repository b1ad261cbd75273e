"""Heads and head scores: validated on the way in, the same on the way out."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelib.core.errors import BadInput, BadResults
from corelib.core.head_scores import HeadScores, Interval
from corelib.core.heads import Head, HeadSet
from corelib.core.values import Estimate, MetricFacts, ModelFacts, TaskFacts

SETS = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)))


def scores(layers=2, heads=3, **changes) -> HeadScores:
    table = [[0.1 * layer + 0.01 * head for head in range(heads)] for layer in range(layers)]
    given = {
        "model": ModelFacts("mini-s", "a", layers, heads, 1),
        "task": TaskFacts("scenes", "select", 0, 8, accuracy=0.5),
        "metric": MetricFacts("raw", "answer", "mean"),
        "values": table,
        "interval": Interval(0.95, table, [[value + 0.1 for value in row] for row in table]),
        "chance": 0.1,
        "seconds": 1.5,
    }
    return HeadScores(**given | changes)


def test_a_head_reads_as_it_is_written():
    assert Head.parse(str(Head(12, 3))) == Head(12, 3)
    assert Head(np.int64(1), np.int64(2)) == Head(1, 2)
    assert Head(1, 9) < Head(2, 0)
    for text in ("L4", "H4L1", "L-1H0", "l4h0x"):
        with pytest.raises(BadInput, match="as in 'L4H0'"):
            Head.parse(text)
    for pair in [(-1, 0), (0, 1.5), ("1", 0)]:
        with pytest.raises(BadInput, match="whole numbers"):
            Head(*pair)


@settings(deadline=None)
@given(SETS, SETS)
def test_head_sets_are_sets(left, right):
    a, b = HeadSet(left), HeadSet(right)
    assert [(head.layer, head.index) for head in a] == sorted(left)
    assert a | b == HeadSet(left | right)
    assert a & b == HeadSet(left & right)
    assert a - b == HeadSet(left - right)
    assert (a <= b) == (left <= right)
    assert HeadSet(json.loads(json.dumps(a.to_json()))) == a
    assert HeadSet(str(a)) == a
    assert pickle.loads(pickle.dumps(a)) == a
    assert hash(HeadSet(reversed(a.heads))) == hash(a)
    assert sum(len(indices) for indices in a.by_layer().values()) == len(a)


def test_head_sets_say_what_is_wrong():
    core = HeadSet("L4H0 L2H6 L4H0")
    assert "L4H0" in core
    assert (2, 6) in core
    assert Head(0, 0) not in core
    assert core.check(5, 7) is core
    assert len(HeadSet.all(6, 8)) == 48
    with pytest.raises(BadInput, match="L4H0: the model has layers 0–3 with heads 0–7"):
        core.check(4, 8)
    with pytest.raises(BadInput, match="3 is not a head"):
        HeadSet([3])


def test_top_heads_and_ties():
    found = scores()
    assert found.top(1 / 3).to_json() == ["L1H1", "L1H2"]
    assert [str(head) for head in found.order()][:2] == ["L1H2", "L1H1"]
    level = [[0.5] * 3] * 2
    assert scores(values=level).top(0.5).to_json() == ["L0H0", "L0H1", "L0H2"]


@pytest.mark.parametrize(
    ("layers", "heads", "fraction", "count"),
    [(6, 8, 0.05, 3), (30, 9, 0.05, 14), (10, 10, 0.07, 7), (2, 3, 1.0, 6), (2, 3, 1e-6, 1)],
)
def test_top_counts(layers, heads, fraction, count):
    assert len(scores(layers, heads).top(fraction)) == count


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_top_of_nothing(fraction):
    with pytest.raises(BadInput, match="share in"):
        scores().top(fraction)


def test_round_trip(tmp_path):
    found = scores()
    path = found.save(tmp_path / "scores.json")
    assert HeadScores.load(path) == found
    assert json.loads(path.read_text())["schema"] == HeadScores.schema
    assert found.software["corelib"]


def test_scores_are_an_array_that_knows_its_heads():
    found = scores()
    table = np.asarray(found)
    assert table.dtype == float and table.shape == found.shape == (2, 3) and table[1, 2] == found["L1H2"]
    assert np.array(found, dtype=np.float32).dtype == np.float32 and np.max(found) == table.max()
    for head in ("L1H2", Head(1, 2), (1, 2)):
        assert found[head] == found.values[1][2]
        assert found.estimate(head) == Estimate(found[head], found[head], found[head] + 0.1)
    for head, says in (("L2H0", "the model has layers 0–1 with heads 0–2"), ("2", "as in 'L4H0'"), (1, "not a head")):
        with pytest.raises(BadInput, match=says):
            found[head]
        with pytest.raises(BadInput, match=says):
            found.estimate(head)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"values": [[0.1, 0.2]]}, r"scores is not \[2\]\[3\]"),
        ({"values": [[0.1, 0.2, float("nan")]] * 2}, "not finite"),
        ({"values": None}, "not a table"),
        ({"values": [["a", "b", "c"]] * 2}, "not a table"),
        ({"interval": Interval(0.9, [[1] * 3] * 2, [[0] * 3] * 2)}, "low end lies above"),
        ({"interval": Interval(0.9, [[1] * 3] * 2, [[0] * 3])}, "high is not"),
    ],
)
def test_bad_scores_are_refused(changes, reason):
    with pytest.raises(BadResults, match=reason):
        scores(**changes)


def test_bad_files_are_refused(tmp_path):
    path = scores().save(tmp_path / "scores.json")
    payload = json.loads(path.read_text())
    for broken, reason in [
        ({**payload, "schema": "corelib/head-scores/9"}, "head-scores/9"),
        ({**payload, "extra": 1}, r"scores\.json: extra: unknown key"),
        (
            {name: value for name, value in payload.items() if name != "task"},
            r"scores\.json: task: this key is missing",
        ),
        ({**payload, "model": {"name": "mini-s"}}, r"scores\.json: model\.sha256: this key is missing \(and 3 more\)"),
        ({**payload, "metric": None}, r"scores\.json: metric: "),
        ({**payload, "scores": [[1.0]]}, r"scores\.json: head scores"),
    ]:
        path.write_text(json.dumps(broken))
        with pytest.raises(BadResults, match=reason):
            HeadScores.load(path)
