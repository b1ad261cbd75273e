"""Few heads dense: which samples count, what the baselines are given, and that the result is what the parts say."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_inputs, tiny_model

from corelib import HeadSet, atlas
from corelib.attention.record import record
from corelib.benchmarks.tradeoff import Tradeoff, measure_tradeoff
from corelib.core.errors import BadInput
from corelib.experiments.hybrid import Hybrid, measure_hybrid
from corelib.experiments.out_of_window import out_of_reach
from corelib.sparse import Window, sparsify
from corelib.sparse.oracle_topk import oracle_topk
from corelib.tasks import task


@pytest.fixture(scope="module")
def found(vlm):
    scores = atlas.cell("mini-s", "scenes").scores()
    options = {"width": 8, "doses": (0.05, 0.20, 0.60), "draws": 2, "batch_size": 12}
    return measure_hybrid(vlm, task("scenes").draw("test", samples=24), scores, **options)


def test_it_is_what_the_parts_say(vlm, found, tmp_path):
    assert Hybrid.load(found.save(tmp_path / "hybrid.json")) == found
    encoded = vlm.encode(task("scenes").samples("test", 0, 24))
    window = Window(8, found.window.sinks)
    counted = out_of_reach(encoded, window)
    assert found.task.counted == int(counted.sum()) < 24
    top = atlas.cell("mini-s", "scenes").scores().top(0.20)
    with sparsify(vlm.model, top, window):
        right = vlm.answer(encoded).correct[counted].double()
    assert found.core[1].accuracy == pytest.approx(right.mean().item())
    assert found.core[1].heads == top
    assert found.core[1].loss.value == pytest.approx(found.base.accuracy - found.core[1].accuracy)
    assert found.none.accuracy < 0.4 < found.core[2].accuracy
    assert found.layer_matched[0][0] is not None and found.layer_matched[0][2] is None  # not enough others
    assert found.random[1][2] is None
    assert [part.kept for part in found.group] == sorted(part.kept for part in found.group)


def test_baselines_have_the_same_budget(found):
    sinks, length = found.window.sinks, found.window.tokens
    for part, uniform, oracle in zip(found.core, found.uniform, found.oracle, strict=True):
        assert Window(uniform.width, sinks).mean_seen(length) == pytest.approx(part.keys, abs=0.5)
        assert Window(oracle.keys, 0).mean_seen(length) == pytest.approx(part.keys, abs=0.5)
    share = len(found.core[0].heads) / 48
    by_hand = share * (length + 1) / 2 + (1 - share) * sum(min(p + 1, 8 + sinks) for p in range(length)) / length
    assert found.core[0].keys == pytest.approx(by_hand, rel=0.05)  # a dose of 5 % is 3 of 48 heads


def test_several_questions_about_each_picture(vlm):
    work, scores = task("documents", pages=3), atlas.cell("mini-s", "documents").scores()
    options = {"width": 8, "doses": (0.20,), "draws": 1}
    found = measure_hybrid(vlm, work.draw("test", samples=12, questions=4), scores, **options)
    encoded = vlm.encode([sample for index in range(3) for sample in work.questions_for("test", 0, index, 4)])
    window = Window(8, found.window.sinks)
    counted = out_of_reach(encoded, window)
    assert found.task.counted == int(counted.sum())
    for heads, said in ((HeadSet(), found.none), (scores.top(0.20), found.core[0])):
        with sparsify(vlm.model, heads, window):
            assert said.accuracy == pytest.approx(vlm.answer(encoded).correct[counted].double().mean().item())
    with pytest.raises(BadInput, match="give a multiple of 4"):
        work.draw("test", samples=13, questions=4)


def test_speed_against_accuracy(vlm, tmp_path):
    work, scores = task("scenes"), atlas.cell("mini-s", "scenes").scores()
    options = {"doses": (0.0, 0.20), "repeats": 1, "busy": True}
    draw = work.draw("test", samples=16)
    found = measure_tradeoff(vlm, draw, scores, widths=(4, 8), **options)
    assert Tradeoff.load(found.save(tmp_path / "trade.json")) == found
    encoded = vlm.encode(work.samples("test", 0, 16))
    counted = out_of_reach(encoded, Window(8, found.sinks))  # of the widest window, for all
    assert found.task.counted == int(counted.sum()) and found.tokens == round(
        encoded.real.sum(1).double().mean().item()
    )
    for point, (width, heads) in zip(
        found.points, [(w, h) for w in (4, 8) for h in (HeadSet(), scores.top(0.2))], strict=True
    ):
        with sparsify(vlm.model, heads, Window(width, found.sinks)):
            assert point.accuracy == pytest.approx(vlm.answer(encoded).correct[counted].double().mean().item())
        assert point.heads == heads and point.prefill.speedup > 0
    for wrong in ({"widths": ()}, {"widths": (4,), "doses": ()}, {"widths": (4,), "repeats": 0}):
        with pytest.raises(BadInput, match="give a width, a dose"):
            measure_tradeoff(vlm, draw, scores, **{**options, **wrong})


def test_which_samples_count(vlm):
    encoded = vlm.encode(task("scenes").samples("test", 0, 8))
    for width in (1, 8, 20):
        for row, counts in enumerate(out_of_reach(encoded, Window(width, 1)).tolist()):
            first = encoded.after_image[row].nonzero()[0].item()
            last = encoded.evidence[row].nonzero()[-1].item()
            assert counts == (last not in range(first - width + 1, first + 1)), (row, width)
    assert not out_of_reach(encoded, Window(1, 100)).any()  # the evidence is a sink


@torch.no_grad()
def test_the_oracle_sees_its_favourites():
    model, inputs = tiny_model("qwen3_vl"), tiny_inputs("qwen3_vl")
    real = inputs["attention_mask"].bool()
    plain = model(**inputs).logits
    with oracle_topk(model, 100):
        torch.testing.assert_close(model(**inputs).logits, plain)
    rows = torch.zeros_like(real)
    rows[:, -1] = True
    with record(model, rows) as recorded:
        model(**inputs)
    best = recorded.attention[0][:, :, 0].topk(3, -1).indices  # [batch, head, 3]
    with oracle_topk(model, 3), record(model, rows) as recorded:
        model(**inputs)
    left = recorded.attention[0][:, :, 0]
    assert ((left > 0).sum(-1) == 3).all() and (left.gather(-1, best) > 0).all()


def test_bad_input_is_refused(vlm):
    scores, work = atlas.cell("mini-s", "scenes").scores(), task("scenes")
    with pytest.raises(BadInput, match="ranked on these samples"):
        measure_hybrid(vlm, work.draw("select", samples=8), scores, width=8)
    with pytest.raises(BadInput, match="the scores are of mini-m"):
        measure_hybrid(vlm, work.draw("test", samples=8), atlas.cell("mini-m", "scenes").scores(), width=8)
    for samples, options in ((1, {}), (8, {"draws": 0}), (8, {"batch_size": 0}), (8, {"width": 0})):
        with pytest.raises(BadInput):
            measure_hybrid(vlm, work.draw("test", samples=samples), scores, **{"width": 8, **options})
    with pytest.raises(BadInput, match="reaches the evidence"):
        measure_hybrid(vlm, work.draw("test", samples=4), scores, width=60, doses=(0.05,), draws=1)
    with pytest.raises(BadInput, match="0 keys"), oracle_topk(vlm.model, 0):
        pass
