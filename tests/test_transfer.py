"""Heads ranked in one task, tested in another: against accuracies under the plain programs."""

from __future__ import annotations

import numpy as np
import pytest

from corelib import ablate, atlas, knockout
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.experiments.transfer import Transfer, transfer
from corelib.tasks import task


@pytest.fixture(scope="module")
def rankings():
    return {name: atlas.cell("mini-s", name).scores() for name in ("scenes", "documents", "needle")}


@pytest.mark.parametrize("tested", ["scenes", "needle"])
def test_each_number_is_an_accuracy_under_a_program(vlm, rankings, tested, tmp_path):
    draw = task(tested).draw("test", samples=12, seed=20, questions=4)
    found = transfer(vlm, draw, rankings, batch_size=12, store=tmp_path / "store")
    batch = vlm.encode(list(draw))
    every = HeadSet.all(vlm.num_layers, vlm.num_heads)
    plain = vlm.answer(batch).correct
    assert found.base.accuracy == plain.float().mean().item()
    with knockout(vlm.model, batch.source, batch.after_image):
        assert found.none.accuracy == pytest.approx(vlm.answer(batch).correct.float().mean().item())
    assert list(found.rankings) == list(rankings)
    for name, one in found.rankings.items():
        assert one.heads == rankings[name].top(0.05) and one.ranking.task.domain == name
        with ablate(vlm.model, one.heads):
            without = vlm.answer(batch).correct
        with knockout(vlm.model, batch.source, batch.after_image, every - one.heads):
            alone = vlm.answer(batch).correct
        for told, right in ((one.without, without), (one.alone, alone)):
            assert told.accuracy == pytest.approx(right.float().mean().item())
            assert told.loss.value == pytest.approx((plain.float() - right.float()).mean().item(), abs=1e-6)
            assert told.low <= told.accuracy <= told.high and told.loss.low <= told.loss.value <= told.loss.high
    assert np.isfinite(found.seconds) and Transfer.load(found.save(tmp_path / "t.json")) == found
    assert "alone" in repr(found) and "ranked on" in found._repr_html_()


def test_bad_input(vlm, rankings):
    draw = task("scenes").draw("test", samples=8, questions=4)
    for given, says in (
        ({"rankings": {}}, "no ranking is given"),
        ({"rankings": {"bridge": atlas.cell("bridge", "scenes").scores()}}, "bridge"),
        ({"draw": task("scenes").draw("select", samples=8)}, "ranked on these samples"),
        ({"draw": task("scenes").draw("test", samples=4, questions=4)}, "1 picture"),
    ):
        with pytest.raises(BadInput, match=says):
            transfer(vlm, **{"draw": draw, "rankings": rankings, **given})
