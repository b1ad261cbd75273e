"""Which heads count behind sliding windows: measured in the model's masks, kept with the scores, true of every set."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_families import noise
from transformers import Gemma3ForConditionalGeneration, LlamaConfig, LlamaForCausalLM

from corelib import Box, HeadScores, HeadSet, Sample, atlas, load, score_heads, task
from corelib.analysis.agreement import compare_heads, spearman
from corelib.analysis.controls import norm_matched, other_heads, random_sets
from corelib.analysis.overlap import overlap
from corelib.attention.decoder import has_windows
from corelib.core.errors import BadInput, BadResults
from corelib.core.head_scores import Interval
from corelib.core.values import MetricFacts, ModelFacts, TaskFacts
from corelib.experiments import ablation, redirection, transfer
from corelib.experiments.gaze_effects import measure_gaze_effects
from corelib.experiments.head_effects import measure_head_effects
from corelib.experiments.locating import measure_locating
from corelib.experiments.reach import common_reach, layers_in_reach, require_reach, watch_reach, within_reach
from corelib.experiments.reading import Measurement, read_heads
from corelib.experiments.score_heads import score_batches
from corelib.families import tiny
from corelib.models.vlm import VLM

FULL = (1, 3)


def windowed(window: int) -> VLM:
    """A tiny Gemma 3 whose layers 0 and 2 see so many tokens."""
    model, family = tiny.build_tiny("gemma3")
    model.config.text_config.sliding_window = window
    changed = Gemma3ForConditionalGeneration(model.config)
    changed.load_state_dict(model.state_dict())
    return VLM(f"window {window}", changed.eval(), family, sha256=str(window))


@pytest.fixture(scope="module")
def gemma() -> VLM:
    return load("tiny-random:gemma3")


def asked(vlm: VLM, *questions: str):
    """A batch of one picture each, with the evidence in its upper left corner."""
    sample = replace(Sample.of([noise(112, 112)], "?"), answer="7", evidence=(Box(0, 0, 60, 30),))
    return vlm.encode([replace(sample, question=question) for question in questions])


def reached(vlm: VLM, batch) -> list[list[bool]]:
    with torch.no_grad(), watch_reach(vlm.model, batch) as found:
        vlm.model(**batch.inputs, use_cache=False)
    return torch.stack(found, 1).tolist()


def scores_of(table: list[list[float]], reach: tuple[int, ...] | None = None) -> HeadScores:
    return HeadScores(
        model=ModelFacts("m", "sha", len(table), len(table[0]), 1, reach=reach),
        task=TaskFacts("scenes", "select", 0, 4),
        metric=MetricFacts("raw", "answer", "mean"),
        values=table,
        interval=Interval(0.95, table, table),
    )


# --- what is measured ------------------------------------------------------------------------------------------------


def test_a_window_reaches_as_far_as_its_width(gemma):
    """The last row sees the keys k > row − width: at a width of row − k + 1 the first token of the evidence, and at one
    less not. Told by the masks; computed here from the places alone."""
    batch = asked(gemma, "What is it?")
    row = int(batch.rows("answer")[0].nonzero().max())
    first = int(batch.evidence[0].nonzero().min())
    assert reached(windowed(row - first + 1), batch) == [[True] * 4]
    assert reached(windowed(row - first), batch) == [[False, True, False, True]]
    assert reached(windowed(1000), batch) == [[True] * 4]


def test_all_of_the_evidence_must_be_in_sight(gemma):
    """A window that shows the last token of the evidence, and not the first, does not reach it; of another sample of
    the batch, whose question is shorter, it may."""
    batch = asked(gemma, "What is it, then?", "What?")
    row = int(batch.rows("answer")[0].nonzero().max())
    first, *_, last = batch.evidence[0].nonzero().flatten().tolist()
    assert last > first + 1
    assert reached(windowed(row - last + 1), batch)[0] == [False, True, False, True]
    shorter = windowed(row - first)
    assert reached(shorter, batch) == [[False, True, False, True], [True] * 4]
    assert score_batches(shorter, [batch]).model.reach == FULL  # what all samples reach
    assert score_batches(shorter, [asked(gemma, "What?")]).model.reach is None


def test_heads_out_of_reach_look_at_none_of_the_evidence(gemma):
    """Their RAM is zero, whatever the rows and the reduction, and nothing is missing."""
    found = read_heads(gemma, asked(gemma, "What is it?", "What is it, then, and where does it stand?"))
    assert found.reach.tolist() == [[False, True, False, True]] * 2
    for key in ("answer/mean/raw", "answer/max/raw", "last/mean/visual_share", "answer/mean/lift"):
        values = found.scores[key]
        assert values.isfinite().all() and not values[:, [0, 2]].any() and values[:, FULL].any(), key
    again = Measurement.of(found.tensors())
    assert torch.equal(again.reach, found.reach)
    assert torch.equal(replace(found, kind=torch.tensor([0, 1])).of_kind(1).reach, found.reach[1:])


def test_short_prompts_are_in_reach_of_all_heads(gemma):
    wide, draw = windowed(1000), task("scenes").draw("select", samples=2)
    assert layers_in_reach(wide, draw) is None and layers_in_reach(gemma, draw) == FULL
    scores = score_heads(wide, draw)
    assert scores.model.reach is None and len(scores.order()) == 32 and (np.asarray(scores) > 0).all()
    require_reach(wide, draw)
    assert within_reach(wide, draw, scores) is scores


def test_a_model_without_windows_is_not_asked():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    assert not has_windows(LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **sizes)))
    for name in tiny.tiny_names():
        assert has_windows(load(name).model) == (name == "tiny-random:gemma3"), name
    vlm, draw = load("tiny-random:smolvlm"), task("collage").draw("select", samples=1)
    found = read_heads(vlm, vlm.encode(draw))
    assert found.reach is None and "reach" not in found.tensors()
    assert layers_in_reach(replace(vlm, family=None), draw) is None  # nothing is encoded


def test_no_layer_in_reach_is_an_error():
    assert common_reach(torch.tensor([[True, True], [True, True]])) is None
    assert common_reach(torch.tensor([[True, False, True], [True, True, False]])) == (0,)
    with pytest.raises(BadInput, match=r"no layer sees all evidence .* give shorter prompts"):
        common_reach(torch.tensor([[True, False], [False, True]]))


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_a_file_of_scores_says_which_heads_count(gemma, tmp_path):
    scores = score_heads(gemma, task("scenes").draw("select", samples=2))
    scores.save(tmp_path / "new.json")
    again = HeadScores.load(tmp_path / "new.json")
    assert again.layers == FULL and again.top() == scores.top() and len(again.order()) == 16
    told = json.loads((tmp_path / "new.json").read_text())
    assert told["schema"] == "corelib/head-scores/2" and told["model"]["reach"] == [1, 3]
    del told["model"]["reach"]  # as files were written before
    (tmp_path / "old.json").write_text(json.dumps(told))
    assert HeadScores.load(tmp_path / "old.json").layers == (0, 1, 2, 3)
    assert atlas.cell("mini-s", "scenes").scores().layers == tuple(range(6))
    told["model"]["reach"] = []
    (tmp_path / "none.json").write_text(json.dumps(told))
    with pytest.raises(BadResults, match=r"layers \[\] reach the evidence, of 4"):
        HeadScores.load(tmp_path / "none.json")


def test_heads_that_count_by_hand():
    """Of 4 × 5 heads the two layers in reach hold 10: a tenth of them is one head, not two."""
    table = (np.arange(20.0).reshape(4, 5) / 20).tolist()
    scores = scores_of(table).within((0, 2))
    assert str(scores.top(0.1)) == "L2H4" and str(scores.top(0.2)) == "L2H3 L2H4"
    assert [str(head) for head in scores.order()[-2:]] == ["L0H1", "L0H0"] and len(scores.order()) == 10
    assert scores.within((2, 3)).layers == (2,) and scores.within((0, 1, 2)).layers == (0, 2)
    assert scores_of(table).within((0, 1, 2, 3)).model.reach is None
    with pytest.raises(BadInput, match=r"layers \[0, 2\] count in one, of \[1, 3\] in the other"):
        scores.within((1, 3))


def test_reliability_is_that_of_the_heads_that_count(gemma):
    """Heads that are zero by their window agree with themselves: they would make every ranking look sure."""
    from corelib.analysis.reliability import split_half
    from corelib.experiments.score_heads import measure_heads, summarise_heads

    draw = task("scenes").draw("select", samples=16)
    found = measure_heads(gemma, draw)
    values = found.scores["answer/mean/raw"].numpy()
    told = summarise_heads(gemma, draw, found).reliability
    assert told == split_half(values[:, list(FULL)], seed=draw.seed)
    assert split_half(values, seed=draw.seed).halves > told.halves


def test_rankings_are_compared_among_the_heads_that_count_in_both():
    rng = np.random.default_rng(0)
    one, two = (scores_of(rng.random((4, 6)).tolist(), reach) for reach in ((0, 1, 2), (1, 2, 3)))
    found = compare_heads(one, two, 0.25)
    a, b = (scores_of(np.asarray(each)[1:3].tolist()) for each in (one, two))
    assert found.spearman == spearman(one, two) == spearman(a, b)
    tops = one.within((1, 2)).top(0.25), two.within((1, 2)).top(0.25)
    assert found.top == overlap(*tops, heads=12) and len(tops[0]) == 3
    with pytest.raises(BadInput, match="none in both"):
        compare_heads(one, scores_of(rng.random((4, 6)).tolist(), (3,)))


# --- what is drawn ---------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 10**6), reach=st.sets(st.integers(0, 5), min_size=1), count=st.integers(1, 4), data=st.data()
)
def test_no_control_leaves_the_layers_in_reach(seed, reach, count, data):
    layers = sorted(reach)
    inside = st.tuples(st.sampled_from(layers), st.integers(0, 7))
    tested = HeadSet(data.draw(st.sets(inside, min_size=1, max_size=count)))
    norms = np.random.default_rng(seed).random((6, 8)).tolist()
    for drawn in (
        random_sets(tested, 6, 8, draws=5, seed=seed, reach=layers),
        norm_matched(tested, norms, draws=5, seed=seed, reach=layers),
    ):
        for one in drawn:
            assert len(one) == len(tested) and not one & tested and {head.layer for head in one} <= reach


def test_sets_by_hand():
    """One layer of three heads in reach, one of them tested: two others, in six draws each comes."""
    drawn = random_sets(HeadSet("L1H0"), 3, 3, draws=6, reach=(1,))
    assert set(map(str, drawn)) == {"L1H1", "L1H2"}
    assert [str(head) for head in other_heads(HeadSet("L1H0"), 3, 2, 1, (1, 2))] == ["L1H1", "L2H0", "L2H1"]
    assert random_sets(HeadSet("L1H0"), 3, 3, draws=6) == random_sets(HeadSet("L1H0"), 3, 3, draws=6, reach=(0, 1, 2))
    loud = [[9.0, 9.0], [1.0, 8.0], [9.0, 5.0]]  # L0 is as loud as L2H0, and out of reach
    assert [str(one) for one in norm_matched(HeadSet("L2H0"), loud, draws=1, near=1, reach=(1, 2))] == ["L1H1"]
    with pytest.raises(BadInput, match=r"L0H1: only layers \[1, 2\] reach the evidence"):
        random_sets(HeadSet("L0H1 L1H0"), 3, 3, draws=1, reach=(1, 2))
    with pytest.raises(BadInput, match="there are not as many others"):
        random_sets(HeadSet("L1H0 L1H1"), 3, 3, draws=1, reach=(1,))


@pytest.fixture(scope="module")
def ranked(gemma):
    """Scores that say nothing of windows, with heads of sliding layers on top: what a short prompt might give."""
    scores = score_heads(gemma, task("scenes").draw("select", samples=2))
    table = np.asarray(scores) + np.array([[1.0], [0.0], [1.0], [0.0]])
    return replace(scores, model=gemma.facts, values=table.tolist(), interval=Interval(0.95, table, table))


def test_an_ablation_tests_what_reaches_the_evidence_of_its_own_samples(gemma, ranked):
    assert {head.layer for head in ranked.top(0.2)} <= {0, 2}
    draw = task("scenes").draw("test", samples=4, questions=2)
    norms = np.random.default_rng(0).random((4, 8)).tolist()
    found = ablation.ablate_top(gemma, draw, ranked, fraction=0.2, draws=8, norms=norms)
    assert found.model.reach == FULL and len(found.conditions.core.heads) == 4  # of 16, not 7 of 32
    assert set(found.null) == {"layer_matched", "kv_matched", "random", "norm_matched"}
    sets = [one.heads for _, one in found.conditions.items()]
    for null in found.null.values():
        assert len(null.sets) > 1
        sets += null.sets
    assert {head.layer for one in sets for head in one} == {1, 3}
    by_layer = {layer: len(heads) for layer, heads in found.conditions.core.heads.by_layer().items()}
    for one in found.null["layer_matched"].sets:
        assert {layer: len(heads) for layer, heads in one.by_layer().items()} == by_layer


def test_others_do_the_same(gemma, ranked, monkeypatch):
    draw = task("scenes").draw("test", samples=4, questions=2)
    asked_for = {}

    def planned(vlm, draw, plan, **options):
        asked_for.update(plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(redirection, "redirect_sweep", planned)
    with pytest.raises(KeyboardInterrupt):
        redirection.redirect_top(gemma, draw, ranked, draws=4)
    assert {head.layer for one in asked_for.values() for head in one.heads} == {1, 3}
    assert len(asked_for["core"].heads) + len(asked_for["complement"].heads) == 16
    found = transfer.transfer(gemma, draw, {"short": ranked}, batch_size=4)
    assert found.model.reach == FULL and {head.layer for head in found.rankings["short"].heads} <= {1, 3}
    pointed = measure_locating(gemma, task("collage").draw("test", samples=2), ranked, draws=2, tokens=2)
    assert pointed.model.reach == FULL and {head.layer for head in pointed.heads} <= {1, 3}


@pytest.mark.parametrize("measure", [measure_head_effects, partial(measure_gaze_effects, main="RAM")])
def test_who_compares_heads_of_all_layers_refuses_samples_out_of_reach(gemma, ranked, measure):
    with pytest.raises(BadInput, match=r"only layers \[1, 3\] of tiny-random:gemma3 reach the evidence"):
        measure(gemma, task("scenes").draw("test", samples=2), {"RAM": ranked})
