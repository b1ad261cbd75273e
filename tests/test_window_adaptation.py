"""A little training under a window: the arms differ in which heads are dense, and in nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from corelib import load
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.experiments.dense_choices import compare_choices
from corelib.experiments.windowed_run import WindowAdaptation
from corelib.sparse import Window, sparsify
from corelib.tasks import task
from corelib.training import stages, window_adaptation
from corelib.training.batches import pack
from corelib.training.build_trainable import build_trainable
from corelib.training.curriculum import Rung, Stage
from corelib.training.recipe import Recipe
from corelib.training.window_adaptation import ARMS, adapt_to_windows, windowed


@pytest.fixture
def small(monkeypatch):
    """Rows of three pages and pictures, four questions about each."""
    rung = {"documents": {"pages": 3}, "scenes": {"pictures": 3}}
    stage = Stage(
        {name: (Rung(difficulty=one, pictures=1, questions=4),) for name, one in rung.items()},
        learns="language",
        lists=False,
    )
    monkeypatch.setattr(window_adaptation, "WINDOWED", (stage,))
    monkeypatch.setitem(stages.CURRICULA, "windowed", (stage,))
    monkeypatch.setattr(window_adaptation, "QUESTIONS", 4)


def test_a_model_learns_under_the_window_that_it_will_have():
    recipe = Recipe(size="mini-s", begins_with="mini-s-long", dense="L3H0", window=8, processes=1)
    model, plain = build_trainable(recipe), build_trainable(replace(recipe, dense="", window=0))
    work = task("documents", pages=2)
    batch = pack(model.processor, work, [work.draw_picture("train", 0, 0)], 3, lists=False)
    with torch.no_grad():
        found, whole = model.logits(batch), plain.logits(batch)
        with sparsify(plain.model, "L3H0", Window(8)):
            torch.testing.assert_close(found, plain.logits(batch), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, whole, atol=1e-2)
    with model.eval_precision():  # what is measured chooses its windows itself
        assert model.window == Window(8)


def test_recipes_with_windows_are_checked():
    for wrong, message in (
        ({"dense": "L3H0"}, "give a window of 1 key or more"),
        ({"window": -1}, "give a window of 1 key or more"),
        ({"dense": "L3X0", "window": 8}, "L3X0"),
        ({"window": 8, "fast": True}, "not fast"),
        ({"window": 8, "size": "bridge"}, "for a mini model"),
    ):
        with pytest.raises(BadInput, match=message):
            Recipe(**wrong)


def test_the_same_training_with_other_heads_dense(small, tmp_path):
    vlm, core = load("mini-s-long"), HeadSet("L3H0 L4H1 L2H4")
    options = {"width": 8, "seeds": 1, "steps": 2, "samples": 8, "store": tmp_path / "runs"}
    found = adapt_to_windows(vlm, core, **options)
    assert WindowAdaptation.load(found.save(tmp_path / "adapted.json")) == found
    assert [run.arm for run in found.runs] == list(ARMS) and found.of("core")[0].heads == core
    for run in found.runs:
        assert len(run.heads) == 3 and run.before.keys() == {"documents", "scenes"}
        draw = task("documents", pages=3).draw("test", samples=8, seed=1, questions=4)
        before = compare_choices(vlm, draw, {"dense": run.heads}, width=8)
        assert run.before["documents"].kept == before.choices[0].kept and run.before["documents"].dense == before.base
    assert found.of("matched")[0].heads.by_layer().keys() == core.by_layer().keys()
    assert not found.of("matched")[0].heads & core
    again = adapt_to_windows(vlm, core, **options)  # from what is there
    assert again.runs == found.runs
    with pytest.raises(BadInput, match="not trained on long sequences"):
        adapt_to_windows(load("mini-s"), core, **options)


def test_the_recipes_of_the_arms_differ_in_heads_alone():
    one, two = (windowed(1, HeadSet(heads), 64, 150, "mini-s-long") for heads in ("L3H0", "L4H1"))
    assert replace(one, dense=two.dense) == two and one.window == 64
