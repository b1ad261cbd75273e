"""Effects of single heads: what is lost, and what predicts it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from corelib import atlas
from corelib.core.errors import BadInput, BadResults
from corelib.core.heads import Head, HeadSet
from corelib.core.values import Estimate
from corelib.experiments.answer_sweep import answer_sweep
from corelib.experiments.head_effects import DOSES, HeadEffects, beyond_company, measure_head_effects, random_company
from corelib.tasks import task


@pytest.fixture(scope="module")
def tables():
    cell = atlas.cell("mini-s", "scenes")
    flat = [[0.0] * 8 for _ in range(6)]
    return {"RAM": cell.scores().values, "norm": cell.scores("answer/mean/output_norm").values, "nothing": flat}


@pytest.fixture(scope="module")
def draw():
    return task("scenes").draw("validate", samples=8, questions=2)


@pytest.fixture(scope="module")
def found(vlm, draw, tables):
    return measure_head_effects(vlm, draw, tables, sets=20, batch_size=8)


def test_effects_are_paired_losses(vlm, draw, found, tables):
    heads = [HeadSet("L0H1"), HeadSet("L4H0"), HeadSet("L5H7")]
    plain = answer_sweep(vlm, draw, [HeadSet(), *heads], batch_size=8)
    for number, one in enumerate(heads, start=1):
        head = next(iter(one))
        lost = (plain.logprob[0] - plain.logprob[number]).double().mean().item()
        assert found.alone.value[head.layer][head.index] == pytest.approx(lost, abs=2e-4, rel=1e-3)
        low, high = (table[head.layer][head.index] for table in (found.alone.low, found.alone.high))
        assert low <= found.alone.value[head.layer][head.index] <= high
    assert found.base.accuracy == plain.correct[0].double().mean().item()
    top = atlas.cell("mini-s", "scenes").scores().top(DOSES[1])
    joint = answer_sweep(vlm, draw, [HeadSet(), top], batch_size=8)
    loss = (joint.logprob[0] - joint.logprob[1]).double().mean().item()
    assert found.joint["RAM"].logprob[1].value == pytest.approx(loss, abs=1e-4)


def test_agreement_is_spearmans(found, tables):
    for name in ("RAM", "norm"):
        for kind in ("alone", "company"):
            part = getattr(found.agreement[name], kind)
            wanted = spearmanr(np.ravel(tables[name]), np.ravel(getattr(found, kind).value)).statistic
            assert part.value == pytest.approx(wanted, abs=0.02)  # the tables are rounded
            assert -1 <= part.low <= part.high <= 1
    assert found.agreement["nothing"].alone == Estimate(0.0, 0.0, 0.0)


def test_an_effect_in_company_is_what_a_head_adds():
    every = list(HeadSet.all(2, 10))
    company = random_company(every, 40, seed=0)
    assert len(company) == 40 and all(len(one) == 2 for one in company)
    counts = [sum(head in one for one in company) for head in every]
    assert set(counts) == {4}  # every head as often as any other
    worth = np.random.default_rng(0).random(20)
    loss = np.array([sum(worth[every.index(head)] for head in one) for one in company])
    effect = beyond_company(every, company) @ loss
    assert np.corrcoef(effect, worth)[0, 1] > 0.8
    single = np.array([[1.0 if every[3] in one else 0.0 for one in company]])
    assert (single @ beyond_company(every, company).T)[0, 3] == pytest.approx(1.0)


@pytest.mark.parametrize("company", [["L0H0"], [["L0H0", "L0H1"], "L0H0"]], ids=["one is in none", "one is in all"])
def test_a_head_that_is_always_or_never_there_has_no_effect_to_tell(company):
    with pytest.raises(BadInput, match="do not hold every head, and leave it out"):
        beyond_company([Head(0, 0), Head(0, 1)], [HeadSet(one) for one in company])


def test_files_and_bad_input(vlm, draw, found, tables, tmp_path):
    assert HeadEffects.load(found.save(tmp_path / "effects.json")) == found
    (tmp_path / "bad.json").write_text('{"schema": "corelib/effects/9"}')
    with pytest.raises(BadResults, match="has schema"):
        HeadEffects.load(tmp_path / "bad.json")
    for scores, options, says in (
        ({}, {}, "0 scores"),
        ({"RAM": [[1.0]]}, {}, "6 × 8 heads"),
        ({"RAM": np.full((6, 8), np.nan)}, {}, "one finite number"),
        ({"RAM": tables["RAM"]}, {"sets": 1}, "two sets or more"),
        ({"RAM": tables["RAM"]}, {"sets": 2}, "do not hold every head"),
    ):
        with pytest.raises(BadInput, match=says):
            measure_head_effects(vlm, draw, scores, batch_size=8, **options)
    with pytest.raises(BadInput, match="an interval needs two or more"):
        measure_head_effects(vlm, task("scenes").draw("validate", samples=2, questions=2), tables, sets=20)
