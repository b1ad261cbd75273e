"""Ablation: losses are paired, controls are others, and what ranked the heads does not test them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from corelib import atlas
from corelib.analysis import controls
from corelib.analysis.stats import bootstrap_interval, p_value
from corelib.attention.head_outputs import head_outputs, resampled
from corelib.attention.intervene import ablate, knockout
from corelib.core.errors import BadInput, BadResults, UnknownName
from corelib.core.heads import HeadSet
from corelib.core.values import Estimate
from corelib.experiments.ablation import ablate_top
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.answer_sweep import answer_sweep
from corelib.experiments.evidence import chance_levels, swap_images
from corelib.tasks import task

SETS = [HeadSet(), HeadSet("L4H0 L4H1"), HeadSet("L0H3 L2H4")]


def draw(split="test", samples=8, questions=1):
    return task("scenes").draw(split, samples=samples, questions=questions)


@pytest.fixture(scope="module")
def scores():
    return atlas.cell("mini-s", "scenes").scores()


@pytest.fixture(scope="module")
def found(vlm, scores):
    options = {"draws": 5, "doses": (0.05, 0.2, 0.5), "dose_draws": 3, "batch_size": 6}
    norms = atlas.cell("mini-s", "scenes").scores("answer/mean/output_norm").values
    return ablate_top(vlm, draw(samples=12, questions=2), scores, norms=norms, **options)


def test_intervals_resample_pictures(vlm, found):
    """Questions about one picture stand or fall together."""
    plain = answer_sweep(vlm, draw(samples=12, questions=2), [HeadSet()], batch_size=6)[0]
    assert found.task.questions == 2
    core = found.conditions.core
    without = answer_sweep(vlm, draw(samples=12, questions=2), [core.heads], batch_size=6)[0]
    values = plain.logprob.double().numpy() - without.logprob.double().numpy()
    pictures = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    low, high = bootstrap_interval(values, clusters=pictures, level=0.95, seed=0)
    np.testing.assert_allclose((core.loss.logprob.low, core.loss.logprob.high), (low, high), atol=1e-5)
    alone = bootstrap_interval(values, level=0.95, seed=0)
    assert abs(alone[0] - low) > 1e-3 or abs(alone[1] - high) > 1e-3


@pytest.mark.parametrize("mode", ["zero", "mean", "resample", "knockout", "image_knockout"])
def test_outcomes_are_those_of_whole_passes(vlm, mode):
    work = task("scenes")
    got = answer_sweep(vlm, draw(), SETS, mode=mode, batch_size=4)
    assert got.correct.shape == got.logprob.shape == (3, 8)
    for start in (0, 4):
        encoded = vlm.encode([work.sample("test", 0, index) for index in range(start, start + 4)])
        plain = vlm.answer(encoded).logprob
        np.testing.assert_allclose(got.logprob[0, start : start + 4], plain, atol=1e-4)
        if mode == "mean":
            continue  # its means are tested in test_intervene.py
        with torch.no_grad(), head_outputs(vlm.model) as kept:
            vlm.model(**encoded.inputs, use_cache=False)
        program = {
            "zero": lambda: ablate(vlm.model, SETS[1]),
            "resample": lambda kept=kept: ablate(vlm.model, SETS[1], replacement=resampled(kept)),
            "knockout": lambda e=encoded: knockout(vlm.model, e.evidence, e.after_image, SETS[1]),
            "image_knockout": lambda e=encoded: knockout(vlm.model, e.visual, e.after_image, SETS[1]),
        }[mode]
        with program():
            np.testing.assert_allclose(got.logprob[1, start : start + 4], vlm.answer(encoded).logprob, atol=1e-4)
    assert (got.logprob[1] - got.logprob[0]).abs().max() > 1e-3


@pytest.mark.parametrize("domain", ["scenes", "documents", "video", "needle"])
def test_several_questions_about_a_picture(vlm, domain):
    work = task(domain)
    drawn = [sample for index in range(4) for sample in work.questions_for("test", 0, index, 3)]
    assert len({sample.question for sample in drawn[:3]}) == 3
    assert drawn[3].question == work.sample("test", 0, 1).question
    got = answer_sweep(vlm, work.draw("test", samples=12, questions=3), SETS, batch_size=6)
    for number, heads in enumerate(SETS):
        with ablate(vlm.model, heads):
            whole = vlm.answer(vlm.encode(drawn))
        np.testing.assert_allclose(got.logprob[number], whole.logprob, atol=2e-5, rtol=1e-5)
        assert torch.equal(got.correct[number], whole.correct)


def test_another_sample_is_another_picture(vlm):
    work, heads = task("scenes"), SETS[1]
    got = answer_sweep(vlm, work.draw("test", samples=6, questions=2), [heads], mode="resample", batch_size=2)
    encoded = vlm.encode([sample for index in range(3) for sample in work.questions_for("test", 0, index, 2)])
    with torch.no_grad(), head_outputs(vlm.model) as kept:
        vlm.model(**encoded.inputs, use_cache=False)
    with ablate(vlm.model, heads, replacement=resampled(kept, [2, 3, 4, 5, 0, 1])):
        np.testing.assert_allclose(got.logprob[0], vlm.answer(encoded).logprob, atol=1e-5)


def test_a_stopped_run_goes_on(vlm, tmp_path):
    options = {"store": tmp_path / "run", "batch_size": 4}
    answer_sweep(vlm, draw(samples=4), SETS, **options)
    steps = []
    again = answer_sweep(vlm, draw(), SETS, progress=lambda done, _: steps.append(done), **options)
    assert steps == [4, 8]
    np.testing.assert_allclose(again.logprob, answer_sweep(vlm, draw(), SETS, batch_size=4).logprob, atol=1e-5)
    with pytest.raises(BadResults, match="other settings"):
        answer_sweep(vlm, draw(), SETS[:2], **options)


def test_the_result_holds_together(found, scores, tmp_path):
    core = scores.top()
    assert found.conditions.core.heads == core
    assert not (found.conditions.next.heads | found.conditions.lowest.heads) & core
    assert [name for name, _ in found.conditions.items()] == ["core", "next", "lowest"]
    for _, part in found.conditions.items():
        loss = part.loss.accuracy
        assert loss.value == pytest.approx(found.base.accuracy - part.accuracy)
        assert loss.low <= loss.value <= loss.high and part.low <= part.accuracy <= part.high
    assert set(found.null) == {"layer_matched", "kv_matched", "random", "norm_matched"} == set(found.percentile)
    for name, null in found.null.items():
        assert null.complete is False and null.loss.value == pytest.approx(found.base.accuracy - np.mean(null.accuracy))
        assert null.loss.low <= null.loss.value <= null.loss.high
        assert len(null.sets) == len(null.accuracy) == len(null.logprob) == 5
        assert all(not one & core for one in null.sets)
        losses = [found.base.logprob - one for one in null.logprob]
        assert found.percentile[name].logprob == p_value(found.conditions.core.loss.logprob.value, losses)
        right = [round(12 * one) for one in (found.conditions.core.accuracy, *null.accuracy)]
        assert found.percentile[name].accuracy == sum(one <= right[0] for one in right) / len(right)
    assert found.chance == found.levels.constant and found.normalised(Estimate(0.0, 0.0, 0.0)).value == 0
    way = found.base.accuracy - found.chance
    assert found.normalised(Estimate(way, way / 2, way)) == Estimate(1.0, 0.5, 1.0)
    assert found.dose.accuracy.core[0] == found.conditions.core.accuracy
    assert found.dose.d50.core.largest == found.dose.d50.reverse.largest == 0.5 and len(found.dose.layer_matched) == 3
    assert found.dose.d50.layer_matched.largest == found.dose.ratio.largest == 0.2
    assert all(curve[-1] is None for curve in found.dose.layer_matched)  # half of all heads: no disjoint control
    keeping = found.sufficiency
    assert keeping.doses == found.dose.doses and len(keeping.core) == 3 and len(keeping.layer_matched) == 3
    assert keeping.none < 0.4 and keeping.core[-1] > keeping.none
    assert Ablation.load(found.save(tmp_path / "a.json")) == found
    payload = json.loads((tmp_path / "a.json").read_text())
    assert payload["schema"] == "corelib/ablation/1"
    (tmp_path / "a.json").write_text(json.dumps({**payload, "schema": "corelib/ablation/9"}))
    with pytest.raises(BadResults, match="has schema"):
        Ablation.load(tmp_path / "a.json")


def test_the_same_samples_may_not_rank_and_test(vlm, scores):
    few = {"draws": 2, "batch_size": 4}
    with pytest.raises(BadInput, match="ranked on these samples"):
        ablate_top(vlm, draw("select", samples=4), scores, **few)
    meant = ablate_top(vlm, draw("select", samples=4), scores, same_samples=True, **few)
    assert meant.task.split == "select" and meant.dose is None


def test_what_has_no_disjoint_control_is_removed_all_the_same(vlm, scores):
    """Twenty of 48 heads: some layers have too few others, the model as a whole has not."""
    found = ablate_top(vlm, draw(samples=8), scores, fraction=0.4, draws=2, batch_size=8)
    assert set(found.null) == {"random"} and len(found.conditions.core.heads) == 20
    with pytest.raises(BadInput, match="no disjoint control"):
        controls.layer_matched(scores.top(0.4), 6, 8, draws=2)


def test_chance_is_the_best_constant_answer(vlm):
    """By hand: the most frequent answer of `select`, on the test samples."""
    drawn = draw(samples=16, questions=1)
    levels = chance_levels(vlm, drawn, batch_size=8)
    answers = [sample.answer for sample in drawn.task.draw("select", samples=512, seed=drawn.seed)]
    most = max(answers.count(answer) for answer in set(answers))
    assert answers.count(levels.answer) == most
    assert levels.constant == np.mean([sample.answer == levels.answer for sample in drawn])
    grey = vlm.encode([replace(one, images=(Image.new("RGB", one.images[0].size, (128,) * 3),)) for one in drawn])
    assert levels.blank == pytest.approx(vlm.answer(grey).accuracy) and levels.blank < 0.5
    assert levels.swapped == pytest.approx(
        vlm.answer(vlm.encode(swap_images(drawn[:8]))).accuracy / 2
        + vlm.answer(vlm.encode(swap_images(drawn[8:]))).accuracy / 2
    )
    text = task("needle").draw("test", samples=8)
    assert chance_levels(vlm, text).blank is None


def test_bad_input(vlm, scores):
    stranger = replace(scores, model=replace(scores.model, sha256="0" * 64))
    for changes, says in (
        ({"scores": stranger}, "score the heads of this model first"),
        ({"draw": draw(samples=1)}, "1 picture: an interval needs two or more"),
        ({"draw": draw(samples=4, questions=4)}, "1 picture: an interval needs two or more"),
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or more"),
        ({"draws": 0}, "draws must be a whole number, 1 or more, got 0"),
        ({"fraction": 0.9}, "not as many others"),
    ):
        with pytest.raises(BadInput, match=says):
            ablate_top(vlm, **{"draw": draw(), "scores": scores, "draws": 2, "batch_size": 4, **changes})
    with pytest.raises(BadInput, match="a multiple of 4"):
        draw(samples=6, questions=4)
    with pytest.raises(UnknownName, match="ablation mode"):
        answer_sweep(vlm, draw(), SETS, mode="zap", batch_size=4)
