"""Heads as a pointer: places by hand, AUROC against scipy, the look that is moved, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import mannwhitneyu

from corelib import Box, HeadSet, Sample, atlas, load, task
from corelib.analysis.discrimination import auroc, auroc_estimate
from corelib.attention.record import record
from corelib.bridge import language
from corelib.core.errors import BadInput
from corelib.experiments.locating import judge, measure_locating
from corelib.experiments.locating_result import Locating
from corelib.families.base import View
from corelib.families.regions import Grid
from corelib.metrics.pointing import peak_region
from corelib.models.gaze import answer_looking_at
from corelib.models.locate import answer_looks, locate, place_of, weights_of


@pytest.fixture(scope="module")
def vlm():
    torch.set_num_threads(1)
    return load("mini-s")


@pytest.mark.parametrize(
    ("look", "region"),
    [
        ([[1.0]], (0, 1, 0, 1)),
        ([[0, 4, 2], [0, 3, 0], [3, 0, 0]], (0, 2, 1, 3)),  # 2 is half of the peak; the other 3 touches at a corner
        ([[0, 4, 1.9], [0, 0, 0], [0, 4, 0]], (0, 1, 1, 2)),  # of two peaks, the first
        ([[1, 1], [1, 1]], (0, 2, 0, 2)),
    ],
)
def test_the_region_around_a_peak(look, region):
    assert peak_region(look) == region


@given(
    arrays.arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 1, width=32)),
    st.floats(0.1, 1),
)
def test_a_region_holds_the_peak_and_grows_as_the_share_falls(look, share):
    if not look.max() > 0:
        with pytest.raises(BadInput, match="no peak"):
            peak_region(look, share)
        return
    first, past, left, right = peak_region(look, share)
    row, column = np.unravel_index(look.argmax(), look.shape)
    assert first <= row < past and left <= column < right
    wider = peak_region(look, share / 2)
    assert wider[0] <= first and wider[1] >= past and wider[2] <= left and wider[3] >= right


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_statistic_of_mann_and_whitney(pairs):
    values, right = np.array([float(one) for one, _ in pairs]), np.array([two for _, two in pairs])
    if right.all() or not right.any():
        with pytest.raises(BadInput, match="one kind"):
            auroc(values, right)
        return
    theirs = mannwhitneyu(values[right], values[~right]).statistic / right.sum() / (~right).sum()
    assert auroc(values, right) == pytest.approx(theirs)


def test_an_interval_of_auroc():
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.8
    told = auroc_estimate(right + rng.normal(size=400), right)
    assert told is not None and 0.6 < told.low < told.value < told.high < 0.9
    nothing = auroc_estimate(rng.normal(size=400), right, clusters=np.arange(400) // 4)
    assert nothing is not None and nothing.low < 0.5 < nothing.high
    assert auroc_estimate(np.arange(30.0), np.arange(30) < 19) is None  # 11 of one kind: too few


GRID = Grid(rows=2, columns=2, width=64, height=64)


def two_pages():
    return [View((page,), GRID, torch.arange(4) + 1 + 5 * page) for page in range(2)]


def test_a_place_by_hand():
    look = torch.tensor([0.1, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.1, 0.4])
    place = place_of(look, two_pages())
    assert place.page == 1 and place.shares == pytest.approx((0.2, 0.8))
    assert place.box == Box(0, 32, 32, 64, 1) and place.sure == pytest.approx(0.6)
    sample = Sample("documents", "test", 0, 0, "", "?", "7", evidence=(Box(0, 32, 16, 64, 1),))
    evidence = torch.zeros(11, dtype=torch.bool)
    evidence[8] = True
    assert judge(look, two_pages(), evidence, sample).tolist() == pytest.approx([1, 1, 0.5, 0.6])
    beside = torch.eye(11)[6]  # on the right page, another token
    assert judge(beside, two_pages(), evidence, sample).tolist() == [1, 0, 0, 1]
    assert judge(torch.zeros(11), two_pages(), evidence, sample).tolist() == [0, 0, 0, 0]
    with pytest.raises(BadInput, match="pay nothing to the pictures"):
        place_of(torch.zeros(11), two_pages())


def test_a_look_is_the_mean_over_heads_and_rows(vlm):
    batch = vlm.encode(task("documents").draw("test", samples=2))
    sets = [HeadSet("L2H4 L3H7"), HeadSet.all(6, 8)]
    looks = answer_looks(vlm, batch, weights_of(sets, 6, 8))
    with torch.no_grad(), record(vlm.model, batch.rows("answer")) as recorded:
        vlm.model(**batch.inputs)
    maps = recorded.stack()  # [layer, sample, head, row, token]
    by_hand = (maps[2, :, 4] + maps[3, :, 7]).mean(1) / 2
    torch.testing.assert_close(looks[0], by_hand, atol=1e-6, rtol=0)
    torch.testing.assert_close(looks[1], maps.mean((0, 2, 3)), atol=1e-6, rtol=0)


def test_looks_are_whole_under_half_precision(vlm):
    batch = vlm.encode(task("documents").draw("test", samples=1))
    weights = weights_of([HeadSet("L2H4")], 6, 8)
    whole = answer_looks(vlm, batch, weights)
    with torch.autocast("cpu", torch.bfloat16):
        half = answer_looks(vlm, batch, weights)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, atol=0.05, rtol=0)
    assert place_of(half[0, 0], batch.views[0]).page == place_of(whole[0, 0], batch.views[0]).page


@pytest.mark.skipif(not language.is_installed(), reason="the bridge's packages are not installed")
def test_a_map_is_of_the_picture_and_not_of_its_padding():
    """The bridge puts a page of 192 × 256 pixels on a square canvas: two of eight columns show nothing of it."""
    bridge = load("bridge")
    sample = task("documents").sample("test", seed=0, index=0)
    heads = atlas.cell("bridge", "documents").scores().top()
    found = locate(bridge, sample.images, sample.question, heads)
    assert {tuple(one.shape) for one in found.maps} == {(8, 6)}
    row, column = divmod(int(found.maps[found.page].argmax()), 6)
    assert found.box.x0 <= 32 * column < found.box.x1 and found.box.y0 <= 32 * row < found.box.y1
    box = sample.evidence[0]
    assert box.x0 < 32 * (column + 1) and 32 * column < box.x1 and box.y0 < 32 * (row + 1) and 32 * row < box.y1


def test_it_points_at_the_evidence_of_a_new_page(vlm):
    sample = task("documents").sample("test", seed=0, index=3)
    heads = atlas.cell("mini-s", "documents").scores().top(0.05)
    found = locate(vlm, sample.images, sample.question, heads)
    box = sample.evidence[0]
    assert found.answer == sample.answer and found.page == box.image
    assert found.box.x0 <= (box.x0 + box.x1) / 2 < found.box.x1 and found.box.y0 <= (box.y0 + box.y1) / 2 < found.box.y1
    assert 0.3 < found.sure <= 1 and sum(found.place.shares) == pytest.approx(1)
    assert found.ranked()[0] == (found.page, max(found.place.shares))


@pytest.mark.parametrize("name", ["qwen3-vl", "qwen2.5-vl", "internvl", "llava-onevision", "smolvlm"])
def test_it_points_in_every_family(name):
    tiny = load(f"tiny-random:{name}")
    pictures = task("documents").sample("test", seed=0, index=0).images
    found = locate(tiny, pictures, "What is the total?", HeadSet("L0H0 L1H1"), tokens=3)
    assert len(found.maps) == len(pictures) and 0 <= found.page < len(pictures)
    assert found.box.x1 <= pictures[0].width and found.box.y1 <= pictures[0].height and found.box.area > 0
    plain, moved = answer_looking_at(tiny, pictures, "What is the total?", HeadSet("L0H0"), Box(0, 0, 64, 64), tokens=2)
    assert isinstance(plain, str) and isinstance(moved, str)


def test_it_is_measured_against_other_pointers(vlm, tmp_path):
    draw = task("documents").draw("validate", samples=24, questions=2)
    ranking = atlas.cell("mini-s", "documents").scores()
    found = measure_locating(vlm, draw, ranking, draws=3, store=tmp_path / "store")
    again = measure_locating(vlm, draw, ranking, draws=3, store=tmp_path / "store")
    assert found.core == again.core and found.controls == again.controls
    assert found.core.point.value > 0.9 and found.core.page is not None and found.core.page.value > 0.9
    assert found.others["centre"].point.value < 0.3 and max(found.controls["matched"]) < found.core.point.value
    assert found.p["matched"] == 0.25 and found.knows == {"concentration": None, "probability": None}
    assert found.task.answers == "written" and found.when_right > 0.9
    found.save(tmp_path / "l.json")
    assert Locating.load(tmp_path / "l.json").others == found.others


def test_the_look_of_the_top_heads_moves_the_answer(vlm):
    heads, moved = atlas.cell("mini-s", "scenes").scores().top(0.05), []
    others = HeadSet("L2H0 L4H4 L4H5") - heads
    for sample in task("scenes").draw("validate", samples=12):
        place = sample.distractors[0]
        moved.append([answer_looking_at(vlm, sample.images, sample.question, one, place) for one in (heads, others)])
    changed = [sum(plain != new for plain, new in column) for column in zip(*moved, strict=True)]
    assert changed[0] >= 6 and changed[1] <= 2


def test_what_cannot_be_pointed_at_is_refused(vlm):
    image = task("scenes").sample("test", seed=0, index=0).images[0]
    with pytest.raises(BadInput, match="no picture"):
        locate(vlm, [], "digit on red square ?", HeadSet("L0H0"))
    with pytest.raises(BadInput, match="is empty"):
        locate(vlm, [image], "digit on red square ?", HeadSet())
    with pytest.raises(BadInput, match="L9H0"):
        locate(vlm, [image], "digit on red square ?", HeadSet("L9H0"))
    with pytest.raises(BadInput, match="covers all that is shown"):
        answer_looking_at(vlm, [image], "digit on red square ?", HeadSet("L0H0"), Box(0, 0, 192, 192))
    with pytest.raises(BadInput, match="on picture 1, but the sample has 1"):
        answer_looking_at(vlm, [image], "digit on red square ?", HeadSet("L0H0"), Box(0, 0, 32, 32, 1))
    ranking = atlas.cell("mini-s", "scenes").scores()
    with pytest.raises(BadInput, match="ranked on these samples"):
        measure_locating(vlm, task("scenes").draw("select", samples=8), ranking)
    with pytest.raises(BadInput, match="no evidence in a picture"):
        measure_locating(vlm, task("needle").draw("test", samples=8), ranking)
    for other in ("bridge", "mini-s-seed1"):  # of another size, and of the same
        with pytest.raises(BadInput, match=f"the scores are of {other}"):
            measure_locating(vlm, task("scenes").draw("test", samples=8), atlas.cell(other, "scenes").scores())
