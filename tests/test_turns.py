"""Many questions behind one row of pictures: read without a mask of all tokens, the numbers stay what they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from corelib.bridge import prompt as bridge_prompt
from corelib.core.errors import BadInput, UnknownName
from corelib.mini import prompt as mini_prompt
from corelib.tasks import task
from corelib.tasks.sample import Sample
from corelib.training import turns
from corelib.training.batches import pack
from corelib.training.build_trainable import build_trainable
from corelib.training.curriculum import Rung, Stage
from corelib.training.kl_to_base import kept_passages
from corelib.training.parallel import contribute
from corelib.training.recipe import Recipe
from corelib.training.stages import ALBUMS, CURRICULA
from corelib.training.trainable_bridge import TrainableBridge


@pytest.fixture(scope="module")
def bridge():
    return TrainableBridge(0, "bridge", precision="float32")


@pytest.fixture(scope="module")
def row(bridge):
    """Two pages, and five questions behind them."""
    work = task("documents", pages=2, excerpt_of=99)
    return pack(bridge.processor, work, [work.draw_picture("train", 0, 3)], 5, lists=False)


def gradients(bridge, logits):
    bridge.model.zero_grad()
    logits.square().mean().backward()
    return {name: p.grad.clone() for name, p in bridge.trained().items() if p.grad is not None}


def test_rows_that_are_read_alone_teach_the_same(bridge, row, monkeypatch):
    bridge.model.train()
    bridge.set_learning("language")
    none = torch.zeros_like(row.turns[0])
    whole = bridge.logits(row)
    expected = gradients(bridge, whole)
    for long in (10**6, 10):  # states are kept, or computed again on the way back
        monkeypatch.setattr(turns, "LONG", long)
        alone = bridge.logits_alone(row, none)
        torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-4)
        found = gradients(bridge, alone)
        assert found.keys() == expected.keys() and len(found) > 200
        for name, value in found.items():
            assert (value - expected[name]).abs().max() <= 1e-4 * expected[name].abs().max(), name
    gaps = none.clone()
    gaps[40] = 500
    assert not torch.allclose(bridge.logits_alone(row, gaps), whole, atol=1e-2)  # places matter


def test_no_question_sees_another(bridge, row):
    bridge.model.eval()
    none, labels = torch.zeros_like(row.turns[0]), row.labels.clone()
    labels[row.turns == 1] = 500  # other words in the first turn
    other = replace(row, inputs={**row.inputs, "input_ids": labels})
    with torch.no_grad():
        before, after = bridge.logits_alone(row, none), bridge.logits_alone(other, none)
    behind = row.turns[:, 1:][row.learned] > 1
    torch.testing.assert_close(before[behind], after[behind])
    assert not torch.allclose(before[~behind], after[~behind])


def test_a_prefix_must_stand_first():
    for wrong in ([1, 0, 0], [-1, 0, 1]):  # behind a turn; padding
        with pytest.raises(BadInput, match="give one row of pictures at a time"):
            turns.turn_mask(torch.tensor(wrong))


def test_positions_by_hand():
    #                             prefix   turn 1   turn 2
    turn = torch.tensor([0, 0, 0, 1, 1, 2])
    assert turns.positions(turn).tolist() == [[0, 1, 2, 3, 4, 3]]
    assert turns.positions(turn, torch.tensor([0, 0, 7, 0, 0, 0])).tolist() == [[0, 1, 9, 10, 11, 10]]


@given(some.lists(some.integers(1, 5), min_size=1, max_size=6), some.integers(0, 400), some.integers(0, 99))
def test_gaps_stay_within_reach(sizes, reach, seed):
    visual = torch.tensor([mark for size in sizes for mark in [False, *[True] * size, False]])
    turn = torch.zeros(len(visual), dtype=torch.long)
    gaps = turns.scattered(visual, turn, reach, np.random.default_rng(seed))
    behind = ~visual & visual.roll(1)
    assert (gaps >= 0).all() and not gaps[~behind].any()  # a picture stays beside its name
    assert int(turns.positions(turn, gaps).max()) < max(reach, len(visual))


def test_half_of_the_rows_have_no_gap():
    visual, turn = torch.tensor([False, True, False]), torch.zeros(3, dtype=torch.long)
    drawn = [int(turns.scattered(visual, turn, 10_000, np.random.default_rng(k)).sum()) for k in range(200)]
    assert 70 < sum(one == 0 for one in drawn) < 130 and max(drawn) > 5_000


@pytest.mark.parametrize("name", ["documents", "scenes"])
def test_excerpts_are_numbered_as_in_the_whole(name):
    size = "pages" if name == "documents" else "pictures"
    firsts = set()
    for index in range(12):
        picture, _ = task(name, excerpt_of=40, **{size: 3}).draw_picture("train", 0, index)
        firsts.add(picture.first_page)
        last = max(int(question.text.split("page ")[1].split()[0]) for question in picture.questions)
        assert 1 <= picture.first_page <= 38 and last == picture.first_page + 2
        assert picture.caption[0].startswith("list page ")
    assert len(firsts) > 5
    sample = task(name, excerpt_of=40, **{size: 3}).sample("train", 0, 0)
    assert sample.first_page in firsts
    assert replace(sample, first_page=sample.first_page + 1).digest != sample.digest
    with pytest.raises(BadInput, match="excerpt_of must be 3 or more for 3 pages, got 2"):
        task(name, excerpt_of=2, **{size: 3}).sample("train", 0, 0)
    usual = task(name, **{size: 3}).sample("train", 0, 0)
    assert usual.first_page == 1 and usual.digest == replace(usual).digest


def test_prompts_name_the_pages_of_an_excerpt(bridge, vlm):
    assert (
        bridge_prompt.opening("documents", 2, first=9)
        == "<|im_start|>page 9: <empty_output>\npage 10: <empty_output>\n"
    )
    assert "page 9 <|vision_start|>" in mini_prompt.opening("documents", 2, first=9)
    sample = Sample.of([Image.new("RGB", (64, 64))] * 2, "room on page 5 ?")
    text = vlm.family.tokenizer.decode(vlm.encode([replace(sample, first_page=4)], answers=False).tokens[0])
    assert "page 4" in text and "page 5" in text and "page 1" not in text


def test_a_picture_a_task_goes_to_one_process():
    recipe = Recipe(size="mini-s", processes=2)
    one = Rung(difficulty={}, pictures=1, questions=2)
    stage = Stage({"needle": (one,), "arithmetic": (one,)}, learns="language")
    model = build_trainable(recipe)
    rungs = dict.fromkeys(stage.ladders, one)
    assert [set(contribute(model, recipe, 0, rungs, stage, share)) for share in (0, 1)] == [{"needle"}, {"arithmetic"}]


def test_rows_are_read_alone_by_the_bridge_only(row):
    recipe = Recipe(size="mini-s", processes=1)
    stage = Stage({"needle": (Rung(difficulty={}, pictures=1, questions=2),)}, learns="language", alone=True)
    with pytest.raises(BadInput, match="needs a model that reads each turn by itself"):
        contribute(build_trainable(recipe), recipe, 0, {"needle": stage.ladders["needle"][0]}, stage, 0)
    blind = TrainableBridge(0, "bridge", unseeing="L18H6")
    with pytest.raises(BadInput, match="leave one of both"):
        blind.logits_alone(row, torch.zeros_like(row.turns[0]))


def test_the_long_recipe_is_what_it_says():
    recipe = Recipe.load("bridge-long")
    assert recipe.begins_with == "bridge" and recipe.curriculum_name == "albums" and CURRICULA["albums"] == ALBUMS
    with pytest.raises(UnknownName, match="precision"):
        replace(recipe, precision="float61")


def test_passages_are_said_once(tmp_path):
    said = []

    def make():
        said.append(1)
        return torch.arange(6).view(3, 2).T  # not in one piece

    for _ in range(2):
        assert torch.equal(kept_passages(tmp_path / "in" / "a.safetensors", make), torch.arange(6).view(3, 2).T)
    assert said == [1]
