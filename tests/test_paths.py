"""Paths: what is cut, and what is not."""

from __future__ import annotations

import pytest

from corelib.attention.intervene import knockout
from corelib.attention.record import record, row_index
from corelib.core.errors import BadInput, BadResults
from corelib.core.heads import HeadSet
from corelib.experiments.knockout import PATHS, PathKnockouts, knock_out_paths, path_masks
from corelib.tasks import task


@pytest.fixture(scope="module")
def found(vlm):
    return knock_out_paths(vlm, task("scenes").draw("test", samples=24), batch_size=24)


def test_what_a_cut_hides_nobody_looks_at(vlm):
    encoded = vlm.encode(task("scenes").samples("select", 0, 3))
    for path in PATHS:
        hidden, rows = path_masks(encoded, path)
        assert hidden.any(1).all() and rows.any(1).all() and not (hidden & rows).any()
        with knockout(vlm.model, hidden, rows), record(vlm.model, encoded.after_image) as recorded:
            vlm.answer(encoded)
        place, real = row_index(encoded.after_image)
        seen = (recorded.attention[3] * hidden[:, None, None]).sum(-1).amax(1)  # [sample, row]
        cut_off = rows.gather(1, place)
        assert seen[cut_off & real].max() < 1e-6 < seen[~cut_off & real].max()
    with pytest.raises(BadInput, match="there are: evidence"):
        path_masks(encoded, "answer → evidence")


def test_the_answer_needs_the_evidence_and_not_the_rest(found):
    assert found.window == 1 and found.first == (0, 1, 2, 3, 4, 5)
    assert found.base.accuracy > 0.9
    assert found.everywhere["evidence → answer"].accuracy > 0.05
    assert max(found.lost["evidence → answer"].logprob) > 10 * max(found.lost["elsewhere → answer"].logprob)
    for path in PATHS:
        part = found.lost[path]
        numbers = zip(part.low, part.logprob, part.high, strict=True)
        assert all(low <= value <= high for low, value, high in numbers)


def test_a_window_of_all_layers_is_the_cut_everywhere(vlm):
    whole = knock_out_paths(vlm, task("scenes").draw("test", samples=8), window=6, batch_size=8)
    for path in PATHS:
        assert whole.lost[path].logprob == (whole.everywhere[path].logprob,)
    encoded = vlm.encode(task("scenes").samples("test", 0, 8))
    hidden, rows = path_masks(encoded, PATHS[1])
    with knockout(vlm.model, hidden, rows, HeadSet.all(6, 8)):
        lost = vlm.answer(encoded).logprob
    plain = vlm.answer(encoded).logprob
    assert whole.everywhere[PATHS[1]].logprob == pytest.approx((plain - lost).double().mean().item(), abs=1e-6)


def test_files_resuming_and_bad_input(vlm, found, tmp_path):
    assert PathKnockouts.load(found.save(tmp_path / "paths.json")) == found
    (tmp_path / "bad.json").write_text('{"schema": "corelib/paths/9"}')
    with pytest.raises(BadResults, match="has schema"):
        PathKnockouts.load(tmp_path / "bad.json")
    work = task("scenes")
    knock_out_paths(vlm, work.draw("test", samples=4), batch_size=4, store=tmp_path / "run")
    again = knock_out_paths(vlm, work.draw("test", samples=8), batch_size=8, store=tmp_path / "run")
    assert again.lost.keys() == found.lost.keys() and again.task.samples == 8
    for window in (0, 7):
        with pytest.raises(BadInput, match="give 1 to 6"):
            knock_out_paths(vlm, work.draw("test", samples=256), window=window)
    with pytest.raises(BadInput, match="1 picture: an interval needs two or more"):
        knock_out_paths(vlm, work.draw("test", samples=1))
