"""Which heads stay dense, and what the others see: every number against whole passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_model

from corelib import atlas
from corelib.attention.record import record
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.experiments.dense_choices import DenseChoices, compare_choices, greedy_dense, windowing_effects
from corelib.experiments.dense_rankings import anchored_ram, rank_for_density
from corelib.experiments.out_of_window import out_of_reach
from corelib.experiments.rest import compare_rests, first_row, firsts_of, names_of
from corelib.experiments.rest_result import Rests
from corelib.experiments.score_heads import score_heads
from corelib.sparse import Window, sparsify
from corelib.sparse.oracle_topk import oracle_topk
from corelib.tasks import task

WINDOW = Window(8, sinks=4)


@pytest.fixture(scope="module")
def draw():
    return task("documents").draw("test", samples=8, seed=5, questions=4)


def test_one_head_short_sighted(vlm, draw):
    effects = windowing_effects(vlm, draw, WINDOW)
    encoded, everyone = vlm.encode(list(draw)), HeadSet.all(6, 8)
    whole = vlm.answer(encoded).logprob.double()
    for head in HeadSet("L0H0 L2H4 L5H7"):
        with sparsify(vlm.model, everyone - HeadSet([head]), WINDOW):
            lost = (whole - vlm.answer(encoded).logprob.double()).mean().item()
        assert effects[head.layer, head.index].item() == pytest.approx(lost, abs=1e-4)
    with pytest.raises(BadInput, match="draw several"):
        windowing_effects(vlm, task("documents").draw("test", samples=4), WINDOW)


def test_greedy_takes_the_best_each_time(vlm, draw):
    candidates = list(HeadSet("L1H0 L2H4 L2H5 L3H7 L4H4"))
    chosen = greedy_dense(vlm, draw, WINDOW, candidates, 3)
    encoded = vlm.encode(list(draw))

    def probable(heads):
        with sparsify(vlm.model, HeadSet(heads), WINDOW):
            return vlm.answer(encoded).logprob.double().sum().item()

    for count in range(1, 4):
        others = [[*chosen[: count - 1], head] for head in candidates if head not in chosen[: count - 1]]
        assert probable(chosen[:count]) >= max(map(probable, others)) - 1e-3
    for count in (0, 6):
        with pytest.raises(BadInput, match="no more than there are"):
            greedy_dense(vlm, draw, WINDOW, candidates, count)


def test_choices_are_compared_on_the_same_questions(vlm, draw, tmp_path):
    scores = atlas.cell("mini-s", "documents").scores()
    sets = {"RAM": scores.top(0.2), "one": HeadSet("L0H0")}
    found = compare_choices(vlm, draw, sets, width=8)
    assert DenseChoices.load(found.save(tmp_path / "choices.json")) == found
    encoded = vlm.encode(list(draw))
    window = Window(8, found.window.sinks)
    counted = out_of_reach(encoded, window)
    assert found.task.counted == int(counted.sum())
    for choice in found.choices:
        with sparsify(vlm.model, sets[choice.name], window):
            right = vlm.answer(encoded).correct[counted].double().mean().item()
        assert choice.heads == sets[choice.name] and choice.kept.accuracy == pytest.approx(right)
    with pytest.raises(BadInput, match="give one or more, by name"):
        compare_choices(vlm, draw, {}, width=8)
    with pytest.raises(BadInput, match="L9H0"):
        compare_choices(vlm, draw, {"none such": HeadSet("L9H0")}, width=8)


def test_the_rest_limited_in_each_way(vlm, tmp_path):
    draw = task("documents", pages=3).draw("test", samples=12, seed=5, questions=6)
    dense = atlas.cell("mini-s", "documents").scores().top(0.2)
    found = compare_rests(vlm, draw, dense, width=8, store=tmp_path / "store")
    assert Rests.load(found.save(tmp_path / "rests.json")) == found
    encoded = vlm.encode(list(draw))
    window = Window(8, found.window.sinks)
    counted = out_of_reach(encoded, window)

    def right(condition):
        with condition:
            return vlm.answer(encoded).correct[counted].double().mean().item()

    assert found["window"].kept.accuracy == pytest.approx(right(sparsify(vlm.model, dense, window)))
    assert found["no head dense"].kept.accuracy == pytest.approx(right(sparsify(vlm.model, HeadSet(), window)))
    assert found["no sinks"].kept.accuracy == pytest.approx(right(sparsify(vlm.model, dense, Window(8, 0))))
    keys = min(range(1, 200), key=lambda one: abs(Window(one, 0).mean_seen(found.window.tokens) - found["window"].keys))
    assert found["best keys"].kept.accuracy == pytest.approx(right(oracle_topk(vlm.model, keys, dense)))
    assert sum(page.questions for page in found.pages) == found.task.counted
    assert sum(page.questions * page.dense for page in found.pages) == pytest.approx(
        found.base.accuracy * found.task.counted
    )
    window, best, blocks = (found[name].kept.accuracy for name in ("window", "best keys", "blocks"))
    assert found.gap_closed == (None if best <= window else pytest.approx((blocks - window) / (best - window)))
    with pytest.raises(BadInput, match="no way 'windows'"):
        found["windows"]


def test_what_is_text_before_the_question(vlm):
    batch = vlm.encode(task("documents", pages=2).questions_for("test", 0, 0, 2))
    names, firsts, row = names_of(batch), firsts_of(batch), first_row(batch)
    ids = batch.tokens[0][batch.real[0]][:row]
    assert len(names) == len(firsts) == row and int(firsts.sum()) == 2
    placeholder = int(ids[firsts][0])
    assert torch.equal(ids == placeholder, ~names) and (ids[firsts.nonzero().flatten() - 1] != placeholder).all()


def test_rests_refuse_bad_input(vlm):
    work = task("documents")
    for draw, dense, message in (
        (work.draw("test", samples=4), HeadSet("L0H0"), "draw several"),
        (work.draw("test", samples=4, questions=2), HeadSet(), "no dense head"),
        (task("needle").draw("test", samples=4, questions=2), HeadSet("L0H0"), "no evidence in pictures"),
    ):
        with pytest.raises(BadInput, match=message):
            compare_rests(vlm, draw, dense, width=8)
    with pytest.raises(BadInput, match="reaches the evidence of nearly all"):
        compare_rests(vlm, work.draw("test", samples=4, questions=2), HeadSet("L0H0"), width=900)


def test_the_best_keys_of_all_but_dense_heads():
    model = tiny_model("smolvlm")
    with torch.no_grad(), oracle_topk(model, 2, "L1H0"), record(model, rows=-1) as recorded:
        model(input_ids=torch.arange(5, 15)[None])
    counts = (recorded.stack()[:, 0, :, 0] > 0).sum(-1)  # [layer, head]
    assert counts[1, 0] == 10 and (counts[0] == 2).all() and (counts[1, 1:] == 2).all()
    with pytest.raises(BadInput, match="L9H0"), oracle_topk(model, 2, "L9H0"):
        pass


def test_rankings_for_density(vlm):
    work = task("documents")
    ranked, tried = work.draw("select", samples=6), work.draw("validate", samples=4, questions=2)
    found = rank_for_density(vlm, ranked, tried, WINDOW, candidates=5)
    assert {"RAM", "output norm", "evidence and anchors", "windowing effect", "greedy", "blend"} < found.keys()
    assert all(len(one) == 3 for name, one in found.items() if name not in ("RAM, 7 heads", "RAM, groups"))
    scores = score_heads(vlm, ranked)
    assert found["RAM"] == scores.top() and found["RAM, 7 heads"] == HeadSet(scores.order()[:7])
    assert found["greedy"] <= HeadSet(scores.order()[:5])
    effects = windowing_effects(vlm, tried, WINDOW)
    worst = HeadSet([(int(k) // 8, int(k) % 8) for k in effects.flatten().argsort(descending=True)[:3]])
    assert found["windowing effect"] == worst
    groups = found["RAM, groups"]  # of two heads each
    assert len(groups) == 2 and {head.index // 2 for head in groups} == {groups_first(groups)}
    assert scores.order()[0] in groups
    with pytest.raises(BadInput, match="take another split or seed"):
        rank_for_density(vlm, ranked, ranked, WINDOW)
    with pytest.raises(BadInput, match="no fewer than the budget"):
        rank_for_density(vlm, ranked, tried, WINDOW, candidates=2)


def groups_first(heads):
    return next(iter(heads)).index // 2


def test_anchors_are_looked_at_too(vlm):
    draw = task("documents").draw("select", samples=4)
    both, alone = anchored_ram(vlm, draw).numpy(), np.asarray(score_heads(vlm, draw))
    assert (both >= alone - 1e-6).all() and (both > alone + 0.01).any()
    bare = task("scenes", relational=0.0).draw("select", samples=4)  # questions without an anchor
    np.testing.assert_allclose(anchored_ram(vlm, bare).numpy(), np.asarray(score_heads(vlm, bare)), atol=1e-6)
