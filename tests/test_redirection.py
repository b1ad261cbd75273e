"""The experiment: pairs of questions, where their regions lie, and what becomes of the answers."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from corelib import atlas, redirect
from corelib.core.errors import BadInput, UnknownName
from corelib.core.heads import HeadSet
from corelib.core.values import Estimate
from corelib.experiments.redirecting import Intervention, Redirecting
from corelib.experiments.redirection import redirect_top
from corelib.experiments.redirection_result import Redirection
from corelib.experiments.rivals import Asked, rival_pairs
from corelib.tasks import task

FEW = {"draws": 3, "details": False}


@pytest.fixture(scope="module")
def draw():
    return task("scenes").draw("validate", samples=16, questions=4)


@pytest.fixture(scope="module")
def scores():
    return atlas.cell("mini-s", "scenes").scores()


@pytest.fixture(scope="module")
def found(vlm, draw, scores):
    return redirect_top(vlm, draw, scores, draws=100, batch_size=8)


# --- pairs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["scenes", "documents", "video", "needle"])
def test_a_rival_is_another_question_about_the_same_picture(domain):
    drawn = list(task(domain).draw("validate", samples=24, questions=4))
    pairs = rival_pairs(drawn)
    assert len(pairs) > 12
    for pair in pairs:
        one, two = drawn[pair.index], pair.rival
        assert one == pair.sample and one.cluster == two.cluster and one.kind == two.kind and one.answer != two.answer
        assert not set(one.evidence) & set(two.evidence) and (one.evidence or one.spans)
    left = set(range(24)) - {pair.index for pair in pairs}
    for index in left:
        same = [other for other in drawn if other.cluster == drawn[index].cluster and other.kind == drawn[index].kind]
        assert all(other.answer == drawn[index].answer for other in same)


def test_parts_are_the_digits_of_a_value(vlm):
    """Of three digits, left to right; every token of the evidence is in one part."""
    asked = Asked.of(vlm, rival_pairs(list(task("documents").draw("validate", samples=24, questions=4))))
    batch = asked.batch
    assert torch.equal(asked.evidence.any(1), batch.evidence)
    assert int(asked.evidence.sum(1).max()) == 1 and int(asked.target.sum(1).max()) == 1
    several = asked.evidence.any(-1).sum(1) == 3
    assert several.any()
    columns = batch.views[0][0].grid.columns
    for row in several.nonzero()[:, 0].tolist():
        view = batch.views[row][batch.samples[row].evidence[0].image]
        places = [asked.evidence[row, part, view.positions].nonzero()[:, 0] % columns for part in range(3)]
        assert all(one.max() < two.min() for one, two in pairwise(places))
    whole = ~several
    assert not asked.evidence[whole, 1:].any() and not asked.target[whole, 1:].any()


def test_a_rival_that_shares_a_token_is_none(vlm):
    pair = rival_pairs(list(task("scenes").draw("validate", samples=8, questions=4)))[0]
    near = replace(pair.rival, evidence=(replace(pair.sample.evidence[0], x0=pair.sample.evidence[0].x0 + 1),))
    assert Asked.of(vlm, [pair]).apart.tolist() == [True]
    assert Asked.of(vlm, [replace(pair, rival=near)]).apart.tolist() == [False]


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["scenes", "documents", "video"])
@torch.no_grad()
def test_moved_is_what_the_model_writes(vlm, domain):
    """By generation under the same program, sample by sample."""
    draw = task(domain).draw("validate", samples=16, questions=4)
    pairs = rival_pairs(list(draw))
    pairs = [pair for pair, apart in zip(pairs, Asked.of(vlm, pairs).apart.tolist(), strict=True) if apart]
    heads = atlas.cell("mini-s", domain).scores().top(0.20)
    moved, stayed, applies = Redirecting.of(vlm, draw, pairs)(Intervention(heads))
    assert applies.all()
    written = []
    for pair in pairs:
        asked = Asked.of(vlm, [pair])
        size = int(asked.batch.lengths[0, 2])
        prompt = vlm.encode([pair.sample], answers=False)
        reach = torch.zeros(1, prompt.tokens.shape[1] + size, dtype=torch.bool)
        reach[:, : prompt.tokens.shape[1]] = prompt.after_image
        reach[:, prompt.tokens.shape[1] :] = True
        masks = [one[:, :, : prompt.tokens.shape[1]] for one in (asked.evidence, asked.target)]
        with redirect(vlm.model, heads, *masks, reach):
            written += vlm.generate(prompt, size)
    assert moved.tolist() == [text == pair.rival.answer for text, pair in zip(written, pairs, strict=True)]
    assert stayed.tolist() == [text == pair.sample.answer for text, pair in zip(written, pairs, strict=True)]
    assert moved.any()


def test_rows_sources_and_goals(vlm, draw):
    pairs = rival_pairs(list(draw))
    under = Redirecting.of(vlm, draw, pairs)
    heads = HeadSet("L4H0 L4H1 L2H4")
    plain = under.plain()
    assert torch.equal(under(Intervention(HeadSet()))[1], plain)
    last = under(Intervention(heads, rows="-1"))
    assert all(torch.equal(*each) for each in zip(last, under(Intervention(heads, rows="answer")), strict=True))
    assert not under(Intervention(heads, goal="empty"))[0][plain].all()
    empty = under.empty()
    assert not (empty & under.own.batch.evidence).any() and not (empty & ~under.own.batch.visual).any()
    assert empty.any(1).all()  # twelve objects on thirty-six cells


# --- the result ------------------------------------------------------------------------------------------------------


def test_what_is_found(found, draw, scores, tmp_path):
    assert Redirection.load(found.save(tmp_path / "redirection.json")) == found
    assert found.task.counted <= found.pairs <= 16 and found.task.questions == 4
    assert found.core.heads == scores.top(0.05) and len(found.complement.heads) == 45
    for one in (found.core, found.complement, *found.doses.values(), *found.other_rows.values()):
        assert one.moved.value + one.stayed.value + one.neither.value == pytest.approx(1)
        assert one.moved.low <= one.moved.value <= one.moved.high
    assert found.doses["3"] == found.core and list(map(int, found.doses)) == sorted({1, 2, 4, 7, 3, 5, 10})
    assert found.null is not None and found.null.complete and 6 <= len(found.null.sets) <= 21
    as_many = sum(one >= found.core.moved.value for one in found.null.moved)
    assert found.null.p == pytest.approx((1 + as_many) / (1 + len(found.null.sets)))
    assert set(found.other_strengths) == {"forced", "hidden"}
    assert {"answer", "-1", "-2"} <= set(found.other_rows) and "after" not in found.other_rows
    assert set(found.specificity) == {"from a distractor", "to empty places"}
    assert found.core.moved.value > 0.3 > max(found.null.moved)
    assert "3 heads move" in repr(found) and "top heads" in found._repr_html_()


def test_a_stopped_run_goes_on(vlm, draw, scores, tmp_path, monkeypatch):
    calls = []
    whole = redirect_top(vlm, draw, scores, batch_size=4, store=tmp_path / "store", **FEW)
    monkeypatch.setattr(Redirecting, "of", lambda *given: calls.append(given))
    again = redirect_top(vlm, draw, scores, batch_size=4, store=tmp_path / "store", **FEW)
    assert not calls and again.core == whole.core and again.null == whole.null
    assert replace(again, seconds=whole.seconds) == whole


def test_batches_change_nothing(vlm, draw, scores):
    one, two = (redirect_top(vlm, draw, scores, batch_size=size, **FEW) for size in (4, 16))
    assert one.core == two.core and one.complement == two.complement


def test_a_task_without_pictures(vlm, scores):
    """Text heads can be redirected, too; there is no empty place in a text, and no distractor."""
    drawn = task("needle").draw("validate", samples=16, questions=4)
    found = redirect_top(vlm, drawn, scores, draws=2, batch_size=16)
    assert found.specificity == {} and found.pairs > 8


def test_bad_input(vlm, draw, scores):
    for given, says in (
        ({"draw": task("scenes").draw("validate", samples=4)}, "needs another one about the same picture"),
        ({"draw": task("scenes").draw("validate", samples=4, questions=4)}, "1 picture"),
        ({"draw": task("scenes").draw("select", samples=16, questions=4)}, "ranked on these samples"),
        ({"draws": 0}, "draws must be a whole number, 1 or more, got 0"),
    ):
        with pytest.raises(BadInput, match=says):
            redirect_top(vlm, **{"draw": draw, "scores": scores, **given})
    with pytest.raises(UnknownName, match="did you mean 'forced'"):
        redirect_top(vlm, draw, scores, strength="force")
    with pytest.raises(UnknownName, match="rows of a redirection"):
        redirect_top(vlm, draw, scores, rows="before")


def test_the_command(run, tmp_path):
    scores = tmp_path / "scores.json"
    atlas.cell("mini-s", "scenes").scores().save(scores)
    few = ("--samples", 8, "--draws", 2, "--no-details")
    done = run("redirect", "--scores", scores, *few, "--split", "validate", "--out", tmp_path / "r.json")
    assert done.returncode == 0 and done.stderr.startswith("mini-s: at most about "), done.stderr
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["schema"] == "corelib/redirection/1" and told["strength"] == "mass-preserving"
    done = run("show", tmp_path / "r.json")
    assert done.returncode == 0 and "(undecided: 2 sets allow no p below 0.333)" in " ".join(done.stdout.split())
    assert run("show", tmp_path / "r.json", "--save", tmp_path / "r.png").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "r.png", "scores.json"]
    done = run("redirect", "--scores", scores, *few, "--strength", "force", "--out", tmp_path / "x.json")
    assert done.returncode == 2 and "did you mean 'forced'" in done.stderr
    assert not (tmp_path / "x.json").exists()


def test_an_estimate_is_of_those_it_applies_to(found):
    """Where a sample has no distractor that is not the target, the check leaves it out."""
    told = found.specificity["from a distractor"]
    assert isinstance(told.moved, Estimate) and np.isfinite(told.moved.value)
