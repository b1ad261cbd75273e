"""Head scores that others published: their formats, what is wrong with a file, and what is counted."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from values import some_scores

from corelib import atlas
from corelib.analysis.concentration import half_share, top_share
from corelib.analysis.layers import group_share, median_depth
from corelib.analysis.publish import by_kv_head, write_scores
from corelib.analysis.published import read_scores
from corelib.analysis.published_models import KNOWN, Decoder, decoder_of
from corelib.analysis.published_result import PublishedPair, PublishedRanking, Source
from corelib.core.errors import BadInput, BadResults, UnknownName
from corelib.core.heads import HeadSet

TINY = Decoder("tiny", 2, 4, 2)
SOURCE = Source("owner/name", "c" * 40, "scores.json", "0" * 64, "none stated")


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def by_name(values):
    """The format of Retrieval_Head, HeadKV and SparseMM: layer-head → the score of every sample."""
    return {f"{layer}-{head}": values[:, layer, head].tolist() for layer in range(2) for head in range(4)}


def test_a_file_by_layer_and_head_is_the_mean_of_its_samples(tmp_path):
    values = np.random.default_rng(0).random((6, 2, 4)).round(3)
    scores = read_scores(written(tmp_path / "one.json", by_name(values)), TINY)
    np.testing.assert_allclose(np.asarray(scores), values.mean(0))
    assert scores.task.samples == 6 and scores.reliability is not None and scores.model.num_kv_heads == 2
    assert (np.array(scores.interval.low) <= np.asarray(scores)).all()
    alone = read_scores(written(tmp_path / "two.json", {key: v[0] for key, v in by_name(values).items()}), TINY)
    assert alone.task.samples == 1 and alone.reliability is None and alone["L1H2"] == values[0, 1, 2]
    named = {f"L{key.replace('-', 'H')}": v for key, v in by_name(values).items()}
    assert read_scores(written(tmp_path / "three.json", named), TINY).values == scores.values


def test_tables_and_gates_are_read_too(tmp_path):
    table = [[0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, -0.5]]
    assert np.asarray(read_scores(written(tmp_path / "table.json", table), TINY)).tolist() == table
    gates = read_scores(written(tmp_path / "gates.tsv", "0.5\t1.0\n0.25\t-0.001\n"), TINY)
    assert gates.shape == (2, 2) and gates.model.num_kv_heads == 2 and gates["L1H0"] == 0.25


def test_a_list_of_heads_is_read_in_any_order(tmp_path):
    """As MMRetHead writes it, with other things beside it."""
    pairs = [["1-1", 0.5], ["0-3", 0.25], ["1-0", 0.25], ["0-0", 0], ["0-1", 0], ["0-2", 0], ["1-2", -1], ["1-3", -2]]
    path = written(tmp_path / "one.json", {"args": {"seed": 42}, "head_score_list": pairs, "metrics": None})
    scores = read_scores(path, TINY)
    assert np.asarray(scores).tolist() == [[0, 0, 0, 0.25], [0.25, 0.5, -1, -2]]
    assert scores.task.samples == 1 and scores.reliability is None


def test_our_own_files_are_read_as_they_are(tmp_path):
    mine = some_scores([[0.1, 0.2], [0.3, 0.4]])
    assert read_scores(mine.save(tmp_path / "mine.json")) == mine


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", '{"0-0": [1], "0-1": [1], "0-1": [2]}', "head 0-1 stands there 2 times"),
        ("b.json", {"0-0": [1], "0-1": [1], "1-0": [1], "1-1": [1]}, "2 layers of 2 heads, but tiny has 2 of 4"),
        ("c.json", {"0-0": [1], "0-1": [1], "1-1": [1]}, "head 1-0 is missing (and 0 more)"),
        ("d.json", {"0-0": [1], "head": [1]}, "'head' names no head"),
        ("e.json", {"0-0": ["one"]}, "head 0-0 has \"['one']\""),
        ("f.json", {"0-0": [True]}, "no list of numbers"),
        ("g.json", {"0-0": []}, "no list of numbers"),
        ("h.json", {"0-0": [1, 2], "0-1": [1]}, "heads have 1 to 2 scores"),
        ("i.json", {}, "names no head"),
        ("j.json", "[1, 2]", "holds no head scores"),
        ("k.json", '{"0-0": [1', "cut short or not JSON"),
        ("p.json", {"head_score_list": [["0-0", 1], ["0-1", 2], ["0-0", 3]]}, "head 0-0 stands there 2 times"),
        ("q.json", {"head_score_list": [["0-0", 1], ["0-1"]]}, "no list of pairs"),
        ("r.json", {"head_score_list": {"0-0": 1}}, "no list of pairs"),
        ("s.json", {"head_score_list": [["1-1", 1], ["0-0", 2], ["0-1", 1]]}, "head 1-0 is missing (and 0 more)"),
        ("t.json", {"head_score_list": [["0-0", None]]}, "no list of numbers"),
        ("l.json", [[1, 2, 3, math.nan], [1, 2, 3, 4]], "L0H3 has a score that is no finite number"),
        ("m.tsv", "1\t2\n3\n", "its lines have [1, 2] numbers"),
        ("n.tsv", "1\tx\n3\t4\n", "numbers between tabs"),
        ("o.tsv", "1\tnan\n3\t4\n", "L0H1 has a score that is no finite number"),
    ],
)
def test_a_file_that_is_not_right_is_refused_in_one_line(tmp_path, name, content, says):
    path = written(tmp_path / name, content)
    with pytest.raises(BadResults, match=r".") as refused:
        read_scores(path, TINY)
    assert says in str(refused.value) and name in str(refused.value) and "\n" not in str(refused.value)


def test_a_model_is_known_by_the_name_of_its_file(tmp_path):
    assert decoder_of("head_score/llama-2-13b-64k.json").num_layers == 40
    assert decoder_of("attn_patterns/Meta-Llama-3.1-8B-Instruct/x/full_attention_heads.tsv").num_kv_heads == 8
    assert decoder_of("scores.json") is None
    with pytest.raises(BadResults, match="begins with no model that is known"):
        read_scores(written(tmp_path / "scores.json", {"0-0": [1]}))
    with pytest.raises(BadInput, match="the last divides the second"):
        Decoder("odd", 2, 4, 3)
    assert len({one.name for one in KNOWN}) == len(KNOWN)


def test_heads_behind_a_window_do_not_count():
    """Of Gemma 3 every sixth layer sees the whole prompt: a score elsewhere counts for nothing."""
    gemma = decoder_of("Gemma-3-12B.json")
    assert gemma.reach == (5, 11, 17, 23, 29, 35, 41, 47)
    table = np.zeros((48, 16))
    table[0, 0], table[5, 3], table[11, 1] = 9.0, 3.0, 1.0
    from corelib.analysis.published import _scores
    from corelib.analysis.published_formats import Found
    from corelib.core.values import MetricFacts

    scores = _scores(Found(table[None], MetricFacts("published", "published", "mean")), gemma)
    assert len(scores.top()) == math.ceil(0.05 * 8 * 16) and "L0H0" not in scores.top()
    assert str(scores.order()[0]) == "L5H3" and len(scores.order()) == 8 * 16
    assert half_share(scores) == 1 / 128 and top_share(scores, 1 / 128) == 0.75


def test_the_numbers_of_a_ranking_by_hand(tmp_path):
    """Two layers of two groups of two heads: all rank variance lies between the groups of a layer, or none does."""
    assert group_share([[4, 4, 1, 1], [9, 9, 2, 2]], 2) == (pytest.approx(1.0), pytest.approx(1 / 3))
    assert group_share([[1, 2, 2, 1], [3, 4, 4, 3]], 2)[0] == pytest.approx(0.0)
    assert group_share([[1, 2, 3, 4]], 2)[0] == pytest.approx(4 / 5)  # ranks −1.5 … 1.5: 4 · 1² of 5
    assert median_depth(HeadSet("L1H0 L1H1"), 2) == 1.0
    values = np.array([[[0.0, 0.0, 0.0, 6.0], [0.0, 0.0, 3.0, -1.0]]])
    scores = read_scores(written(tmp_path / "one.json", by_name(values)), TINY)
    one = PublishedRanking.of(scores, score="s", modality="text", source=SOURCE)
    assert (one.top_share, one.half_share, one.median_depth, one.counted) == (pytest.approx(2 / 3), 1 / 8, 0.0, 8)
    pair = PublishedPair.of(scores, scores, ("a", "b"), "itself")
    assert (pair.heads, pair.shared) == (1, 1) and pair.spearman == pytest.approx(1)
    other = read_scores(written(tmp_path / "two.tsv", "1\t2\n3\t4\n"), TINY)
    with pytest.raises(BadInput, match="other numbers of heads"):
        PublishedPair.of(scores, other, ("a", "b"), "two sizes")


def test_compare_takes_ours_and_theirs(run, tmp_path):
    ours, theirs = tmp_path / "ours.json", tmp_path / "llama-2-7b.json"
    some_scores([[0.1, 0.2], [0.3, 0.4]]).save(ours)
    rng = np.random.default_rng(0)
    written(theirs, {f"{layer}-{head}": float(rng.random()) for layer in range(32) for head in range(32)})
    said = run("compare", ours, theirs)
    assert said.returncode == 0 and "llama-2-7b" in said.stdout and "different models" in said.stdout, said.stderr
    mine = written(tmp_path / "mine.json", [[0.1, 0.2], [0.3, 0.4]])
    assert "--size 32x32x8" in run("compare", mine).stderr
    assert run("compare", mine, "--size", "2x2x1").returncode == 0
    gemma = written(tmp_path / "Gemma-3-12B.json", rng.random((48, 16)).tolist())
    assert "only heads of layers 5, 11," in " ".join(run("compare", gemma).stdout.split())
    refused = run("compare", mine, "--size", "2x2")
    assert refused.returncode == 2 and "as in 32x32x8" in refused.stderr and not refused.stdout


def test_what_others_measured_is_committed_with_its_sources():
    found = atlas.published()
    assert {one.source.repository for one in found.rankings} >= {"nightdessert/Retrieval_Head", "CR400AF-A/SparseMM"}
    for one in found.rankings:
        assert len(one.source.commit) == 40 and len(one.source.sha256) == 64 and one.counted == one.layers * one.heads
        assert 0 < one.half_share <= 0.5 and 0.05 <= one.top_share + 1e-3 <= 1.001
    assert all(one.source is None for one in found.told) and "computed anew" in found.told_by


# --- the way back ----------------------------------------------------------------------------------------------------


finite = st.floats(-1e9, 1e9) | st.floats(0, 1)
tables = arrays.arrays(float, st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 6])), elements=finite)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.mark.parametrize("form", ["retrieval-head", "mmrethead", "table"])
@settings(max_examples=30)
@given(table=tables)
def test_what_is_written_is_read_again_to_the_last_digit(folder, form, table):
    scores = some_scores(table)
    again = read_scores(write_scores(scores, folder / "mine.json", form), Decoder("mine", *table.shape, 1))
    assert again.values == scores.values and again.order() == scores.order()


@settings(max_examples=30)
@given(table=tables, kv_heads=st.integers(1, 3))
def test_gates_that_are_written_are_read_again(folder, table, kv_heads):
    """Once they are gates: one a key/value head, the largest 1."""
    table = np.repeat(np.abs(table) + 1e-3, kv_heads, axis=1)
    decoder = Decoder("mine", *table.shape, kv_heads)
    written(folder / "table.json", table.tolist())
    gates = read_scores(
        write_scores(read_scores(folder / "table.json", decoder), folder / "a.tsv", "duoattention"), decoder
    )
    groups = table.reshape(len(table), kv_heads, -1).max(-1)
    np.testing.assert_allclose(np.asarray(gates), groups / groups.max(), rtol=1e-12)
    again = read_scores(write_scores(gates, folder / "b.tsv", "duoattention"), decoder)
    assert again.values == gates.values and again.model == gates.model


def test_mmretheads_list_is_best_first(tmp_path):
    path = write_scores(some_scores([[0.1, 0.3], [0.3, -0.2]]), tmp_path / "mine.json", "mmrethead")
    pairs = json.loads(path.read_text())["head_score_list"]
    assert pairs == [["0-1", 0.3], ["1-0", 0.3], ["0-0", 0.1], ["1-1", -0.2]]


def test_gates_are_of_key_value_heads(tmp_path):
    scores = atlas.cell("bridge", "scenes").scores()
    again = read_scores(write_scores(scores, tmp_path / "mine.tsv", "duoattention"), Decoder("mine", 30, 9, 3))
    table = np.asarray(scores)
    by_hand = np.array([[max(row[3 * k : 3 * k + 3]) for k in range(3)] for row in table]) / table.max()
    np.testing.assert_allclose(np.asarray(again), by_hand, rtol=1e-12)
    assert np.asarray(again).max() == 1 and by_kv_head(scores).shape == (30, 3)


def test_what_cannot_be_written_is_refused(tmp_path, run):
    low = some_scores(np.array([[-0.1, -0.2]]))
    with pytest.raises(BadInput, match="gates lie between 0 and 1"):
        write_scores(low, tmp_path / "a.tsv", "duoattention")
    assert not (tmp_path / "a.tsv").exists()
    with pytest.raises(UnknownName, match="allowed: retrieval-head, mmrethead, table, duoattention"):
        write_scores(low, tmp_path / "a.tsv", "headkv")
    low.save(tmp_path / "s.json")
    done = run("export", tmp_path / "s.json", "--as", "table", "--out", tmp_path / "t.json")
    assert done.returncode == 0 and json.loads((tmp_path / "t.json").read_text()) == [[-0.1, -0.2]]
    over = run("export", tmp_path / "s.json", "--as", "table", "--out", tmp_path / "s.json")
    assert over.returncode == 2 and "give another name" in over.stderr
