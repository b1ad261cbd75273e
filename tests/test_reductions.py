"""Ways to read RAM over answers of several tokens: against sums over eager attention, and the rule that chooses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from corelib import atlas
from corelib.atlas.reduction_choice import choose, confirm, mean_moved
from corelib.atlas.verdicts import CONFIRMING, SEED
from corelib.core.errors import BadInput, UnknownName
from corelib.core.heads import HeadSet
from corelib.core.values import Estimate
from corelib.experiments.answer_parts import answer_parts
from corelib.experiments.reading import read_heads
from corelib.experiments.reading_reductions import MEAN, WAYS, read_reductions
from corelib.experiments.reductions import compare_reductions
from corelib.experiments.reductions_result import Reductions, Way
from corelib.metrics import PRIMARY
from corelib.tasks import DOMAINS, task


@pytest.fixture(scope="module")
def found(vlm):
    draw = task("documents").draw("validate", samples=16, seed=3, questions=4)
    return compare_reductions(vlm, draw, task("documents").draw("select", samples=16, seed=3), fraction=0.2)


def _thirds(box):
    wide = (box.x1 - box.x0) / 3
    return [replace(box, x0=box.x0 + k * wide, x1=box.x0 + (k + 1) * wide) for k in range(3)]


@torch.no_grad()
def test_every_way_is_a_sum_over_eager_attention(vlm):
    batch = vlm.encode(task("documents").samples("validate", 0, 3))
    assert {len(sample.answer) for sample in batch.samples} == {3}
    thirds = [_thirds(sample.evidence[0]) for sample in batch.samples]
    parts = torch.stack([batch.cover([[each[k]] for each in thirds]) for k in range(3)], 1)
    got = read_reductions(vlm, batch)
    vlm.model.set_attn_implementation("eager")
    try:
        plain, null = (
            torch.stack(vlm.model(**one.inputs, output_attentions=True, use_cache=False).attentions, 1)
            for one in (batch, vlm.null_question(batch))
        )  # [sample, layer, head, row, key]
    finally:
        vlm.model.set_attn_implementation("sdpa")
    for row, sample in enumerate(batch.samples):
        length = batch.tokens.shape[1]
        answer = [length - 4, length - 3, length - 2]
        asked = batch.rows("question")[row].nonzero()[:, 0].tolist()
        words = [vlm.tokenizer.decode([token]) for token in batch.tokens[row, asked]]
        assert words[-1] == "?" and words[-2] in sample.question
        mass = plain[row][..., batch.evidence[row]].sum(-1)  # [layer, head, row]
        own = sum(plain[row][:, :, place][..., parts[row, part]].sum(-1) for part, place in enumerate(answer)) / 3
        expected = {
            "mean": mass[..., answer].mean(-1),
            "max": mass[..., answer].amax(-1),
            "own part": own,
            "last": mass[..., answer[0]],
            "question": mass[..., asked].mean(-1),
            "object or answer": mass[..., [*answer, asked[-2]]].amax(-1),
            "question − null": (mass - null[row][..., batch.evidence[row]].sum(-1))[..., asked].mean(-1),
        }
        assert set(expected) == set(got) == set(WAYS)
        for name, value in expected.items():
            torch.testing.assert_close(got[name][row], value, atol=1e-5, rtol=1e-5)


def test_of_one_token_four_ways_are_one(vlm):
    batch = vlm.encode(task("scenes").samples("validate", 0, 4))
    got = read_reductions(vlm, batch)
    plain = read_heads(vlm, batch).scores["answer/mean/raw"]
    for name in ("mean", "max", "own part", "last"):
        torch.testing.assert_close(got[name], plain)


def test_answers_of_different_lengths(vlm):
    """A value of two digits has two parts, beside one of three in the same batch."""
    one, two = task("documents").samples("validate", 0, 2)
    short = replace(two, answer=two.answer[:2])
    mask, complete = answer_parts(vlm.encode([one, short]), shared=True)
    assert complete.all() and mask.shape[1] == 3 and mask[0].any(-1).all() and not mask[1, 2].any()
    alone, _ = answer_parts(vlm.encode([short]), shared=True)
    assert torch.equal(alone[0].sum(-1), mask[1, :2].sum(-1))
    parts = read_reductions(vlm, vlm.encode([one, short]))["own part"]
    torch.testing.assert_close(parts[1], read_reductions(vlm, vlm.encode([short]))["own part"][0], atol=1e-5, rtol=1e-4)


def test_what_is_found(found, tmp_path):
    assert Reductions.load(found.save(tmp_path / "ways.json")) == found
    assert list(found.ways) == list(WAYS) and found.ranked.split == "select" and found.task.split == "validate"
    assert found.ways[MEAN].difference == Estimate(0, 0, 0)
    for way in found.ways.values():
        assert len(way.heads) == 10 and way.moved.low <= way.moved.value <= way.moved.high
        assert way.difference.value == pytest.approx(way.moved.value - found.ways[MEAN].moved.value)
    assert "mean" in repr(found) and "minus the mean" in found._repr_html_()


def test_a_stopped_comparison_goes_on(vlm, tmp_path, monkeypatch):
    draw, ranking = (
        task("scenes").draw(split, samples=8, **more)
        for split, more in (("validate", {"questions": 4}), ("select", {}))
    )
    options = {"ways": ("last",), "store": tmp_path / "store"}
    steps = []
    whole = compare_reductions(vlm, draw, ranking, **options, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (16, 16) and steps == sorted(steps)
    monkeypatch.setattr("corelib.experiments.reductions.read_reductions", None)
    again = compare_reductions(vlm, draw, ranking, **options)
    assert replace(again, seconds=whole.seconds) == whole and list(whole.ways) == [MEAN, "last"]


def test_bad_input(vlm):
    draw = task("scenes").draw("validate", samples=8, questions=4)
    with pytest.raises(BadInput, match="ranked on these samples"):
        compare_reductions(vlm, draw, task("scenes").draw("validate", samples=8))
    with pytest.raises(UnknownName, match="did you mean 'max'"):
        compare_reductions(vlm, draw, task("scenes").draw("select", samples=8), ways=("mxa",))


# --- the rule --------------------------------------------------------------------------------------------------------


def _compared(found: Reductions, moved: dict[str, float], low: float = 0.0, high: float = 0.0) -> Reductions:
    ways = {
        name: Way(HeadSet("L0H0"), Estimate(value, value, value), Estimate(0, low, high))
        for name, value in moved.items()
    }
    return replace(found, ways=ways)


def test_the_rule_takes_the_best_that_costs_nothing_elsewhere(found):
    def told(documents: dict[str, float], scenes: dict[str, float]) -> str:
        parts = {"documents": documents, "scenes": scenes, "video": {"mean": 0.5, "max": 0.5, "question": 0.5}}
        return choose({"m": {domain: _compared(found, moved) for domain, moved in parts.items()}})

    same = {"mean": 0.5, "max": 0.5, "question": 0.5}
    assert told({"mean": 0.3, "max": 0.4, "question": 0.6}, same) == "question"
    assert told({"mean": 0.3, "max": 0.4, "question": 0.6}, {**same, "question": 0.4}) == "max"
    assert told({"mean": 0.3, "max": 0.34, "question": 0.2}, same) == "mean"
    with pytest.raises(BadInput, match="at least one model"):
        choose({})
    with pytest.raises(BadInput, match="each in"):
        choose({"m": {"scenes": found}})


def test_a_mean_over_models(found):
    results = {name: {"documents": _compared(found, {"mean": value})} for name, value in (("a", 0.2), ("b", 0.6))}
    assert mean_moved(results, "documents") == {"mean": pytest.approx(0.4)}


@pytest.mark.parametrize(
    ("ends", "confirmed"),
    [
        ([(0.1, 0.3)] * 3 + [(-0.1, 0.1)] * 2, True),
        ([(0.1, 0.3)] * 2 + [(-0.1, 0.1)] * 3, False),
        ([(0.1, 0.3)] * 4 + [(-0.2, -0.1)], False),
    ],
)
def test_confirmed_in_most_models_and_worse_in_none(found, ends, confirmed):
    results = {str(number): _compared(found, {"max": 0.5}, *one) for number, one in enumerate(ends)}
    assert confirm("max", results) is confirmed


# --- the committed comparison ----------------------------------------------------------------------------------------

MODELS = ("bridge", "mini-m", "mini-s", "mini-s-seed1", "mini-s-seed2")


def test_what_was_chosen_was_not_confirmed_so_the_mean_stays():
    compared = {
        model: {domain: atlas.reductions(model, f"{domain}-validate") for domain in DOMAINS} for model in MODELS
    }
    assert {one.task.seed for each in compared.values() for one in each.values()} == {SEED}
    tests = {model: atlas.reductions(model, "documents-test") for model in MODELS}
    assert {(one.task.split, one.task.seed) for one in tests.values()} == {("test", CONFIRMING)}
    assert {(one.ranked.split, one.ranked.seed) for one in tests.values()} == {("select", 0)}
    chosen = choose(compared)
    if chosen == MEAN or not confirm(chosen, tests):
        for model in MODELS:
            assert atlas.redirection(model, "documents").ranking.metric.key == PRIMARY.key
