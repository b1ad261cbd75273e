"""A run that is not finished is kept small, and goes on where it stood."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from corelib.core.errors import BadInput, BadResults
from corelib.training.kept_run import keep, unfold
from corelib.training.recipe import Recipe
from corelib.training.trainer import Trainer

RECIPE = Recipe(
    curriculum="long", begins_with="mini-s", processes=1, steps=4, warmup_steps=1, decay_steps=1, batch_scale=0.25,
    checkpoint_every=1, evaluate_samples=0,
)  # fmt: skip


def test_a_kept_run_goes_on(tmp_path):
    run = Trainer(RECIPE, tmp_path / "run")
    run.run(until=1)
    kept = keep(tmp_path / "run", tmp_path / "kept")
    changed = load_file(kept / "changed.safetensors")
    assert changed and all(".visual." not in name and value.dtype == torch.float16 for name, value in changed.items())
    again = Trainer(RECIPE, unfold(kept, tmp_path / "again"))
    assert again.step == 1 and again.curriculum.taken == 1
    for name, value in run.trained.items():
        assert torch.equal(again.trained[name].half(), value.half()), name
    again.run(until=2)
    assert again.step == 2 and len((tmp_path / "again" / "log.jsonl").read_text().splitlines()) == 2
    with pytest.raises(BadInput, match="holds a run"):
        unfold(kept, tmp_path / "again")


def test_what_cannot_be_kept_is_refused(tmp_path):
    with pytest.raises(BadResults):
        keep(tmp_path, tmp_path / "kept")
    with pytest.raises(BadResults):
        unfold(tmp_path, tmp_path / "run")
    Trainer(replace(RECIPE, begins_with="", curriculum="", batch_scale=0.04), tmp_path / "new").save()
    with pytest.raises(BadInput, match="began from nothing"):
        keep(tmp_path / "new", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
