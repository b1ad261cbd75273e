"""Real pictures: a collage of photographs, a folder of one's own, and rows of public data sets."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import astuple, replace
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
from dealt import save_in
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from corelib import HeadScores, load, score_heads
from corelib.core.errors import BadInput, BadRegion, BadResults, HubUnreachable, MissingPackage, UnknownName
from corelib.core.geometry import Mask, box_from
from corelib.experiments.ablation import ablate_top
from corelib.families.regions import Grid, coverage
from corelib.tasks import Box, task
from corelib.tasks.assets import PHOTOGRAPHS, SPLITS, photograph
from corelib.tasks.collage import NAMES, SOUGHT
from corelib.tasks.folder_record import KEYS, record
from corelib.tasks.hub import SOURCES, Hub, shown, with_pages
from corelib.tasks.items import DEALT
from corelib.tasks.scoring import box_of, normalise, option_letter, overlap, score_answer, score_sample

# --- collage ---------------------------------------------------------------------------------------------------------


def test_every_photograph_is_asked_for_in_one_split():
    assert sorted(NAMES) == sorted(name for names in PHOTOGRAPHS.values() for name in names)
    assert set(SOUGHT) == set(SPLITS) and sum(map(len, SOUGHT.values())) == len(NAMES)


@pytest.mark.parametrize("split", SPLITS)
def test_the_number_of_a_collage_stands_where_it_is_said(split):
    """The badge of the evidence is white paper with ink on it, on the photograph that is asked for."""
    for index in range(6):
        sample = task("collage", place=0.0).sample(split, 0, index)
        canvas, (badge,), (cell,) = np.asarray(sample.images[0].convert("L")), sample.evidence, sample.anchors
        inside = canvas[int(badge.y0) + 1 : int(badge.y1) - 1, int(badge.x0) + 1 : int(badge.x1) - 1]
        assert inside.max() == 255 and inside.min() < 40 and (inside > 250).mean() > 0.5
        assert cell.x0 < badge.x0 and badge.x1 < cell.x1 and cell.y0 < badge.y0 and badge.y1 < cell.y1
        assert sample.answer in "123456789" and len(sample.distractors) == 8
        assert any(words in sample.question for words in SOUGHT[split].values())


def test_the_row_of_a_collage():
    for index in range(6):
        sample = task("collage", place=1.0, rows=2, columns=4).sample("test", 0, index)
        assert sample.kind == "row" and int(sample.answer) == sample.evidence[0].y0 // 160 + 1
        assert all(box.y0 != sample.evidence[0].y0 for box in sample.distractors)


def test_a_collage_that_cannot_be_is_refused():
    for difficulty, told in (({"rows": 4}, "rows × columns"), ({"side": 8}, "side must"), ({"place": 2}, "place must")):
        with pytest.raises(BadInput, match=told):
            task("collage", **difficulty).sample("test", 0, 0)


# --- a folder of one's own -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Six real photographs, two questions each, and one about two pictures."""
    lines = []
    for place, name in enumerate(("coffee", "rocket", "chelsea", "china", "flower", "astronaut")):
        save_in("select" if place < 3 else "test", photograph(name), tmp_path / f"{name}.png")
        for number in range(2):
            box = [10, 10 + 40 * number, 90, 50 + 40 * number]
            lines.append({"image": f"{name}.png", "question": f"What is {number}?", "answer": name, "boxes": [box]})
    lines.append(
        {
            "images": ["coffee.png", "rocket.png"],
            "question": "Where?",
            "answer": "there",
            "boxes": [[0, 0, 20, 20, 1]],
            "distractors": [[0, 0, 20, 20, 0]],
            "kind": "two",
        }
    )
    write(tmp_path, lines)
    return tmp_path


def write(folder, lines) -> None:
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")


def test_a_folder_becomes_samples(folder):
    work = task(f"folder:{folder}")
    assert work.kinds == {"question": 12 / 13, "two": 1 / 13}
    assert work.facts["domain"] == f"folder:{folder}" and len(work.facts["sha256"]) == 64
    drawn = [work.sample(split, 0, place) for split in work.dealt for place in range(len(work.dealt[split]))]
    assert len(drawn) == 7 and all(sample.evidence and sample.images[0].mode == "RGB" for sample in drawn)
    two = next(sample for sample in drawn if sample.kind == "two")
    assert two.evidence == (Box(0, 0, 20, 20, image=1),) and two.distractors == (Box(0, 0, 20, 20, image=0),)
    place = next(place for place in range(7) if work.sample("test", 0, place).kind == "question")
    assert {sample.question for sample in work.questions_for("test", 0, place, 2)} == {"What is 0?", "What is 1?"}


def test_no_picture_is_in_two_splits(folder):
    work = task(f"folder:{folder}")
    names = [{name for group in work.dealt[split] for name in group[0].pictures} for split in ("select", "test")]
    assert all(names) and not names[0] & names[1] and len(names[0] | names[1]) == 6


def test_one_file_under_two_names_is_one_picture(folder):
    shutil.copy(folder / "coffee.png", folder / "copy.png")
    (folder / "in").mkdir()
    shutil.copy(folder / "coffee.png", folder / "in" / "coffee.png")
    names = ["coffee.png", "./coffee.png", "copy.png", "in/../in/coffee.png"]
    write(folder, [{**GOOD, "image": name} for name in names])
    work = task(f"folder:{folder}")
    assert sum(map(len, work.dealt.values())) == 1 and len({record.pictures for record in work.records}) == 1


def test_a_picture_may_lie_outside_of_the_folder(folder, tmp_path_factory):
    outside = shutil.copy(folder / "coffee.png", tmp_path_factory.mktemp("outside") / "here.png")
    (folder / "link.png").symlink_to(outside)
    names = ["coffee.png", str(outside), os.path.relpath(outside, folder), "link.png"]
    write(folder, [{**GOOD, "image": name} for name in names])
    assert len({record.pictures for record in task(f"folder:{folder}").records}) == 1


def test_more_pictures_move_none(folder):
    def dealt():
        work = task(f"folder:{folder}")
        return {record.answer: split for split, groups in work.dealt.items() for group in groups for record in group}

    before = dealt()
    lines = (folder / "questions.jsonl").read_text().splitlines()
    for name in ("retina", "brick", "grass"):
        photograph(name).save(folder / f"{name}.png")
        lines.append(json.dumps({**GOOD, "image": f"{name}.png", "answer": name}))
        (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
        assert {**before, **dealt()} == dealt() and dealt().keys() > before.keys()


def test_another_seed_does_not_make_other_samples_of_a_folder(own, ranking, tiny_vlm):
    with pytest.raises(BadInput, match="were ranked on these samples"):
        ablate_top(tiny_vlm, own.draw("select", samples=4, seed=7), ranking, fraction=0.2, draws=2, batch_size=4)


def test_pictures_that_ranked_heads_do_not_test_them(tiny_vlm, tmp_path):
    """A line that joins two pictures moves one of them to the other split; the scores say which ones they are of."""
    lines = [{**GOOD, "image": f"{name}.png"} for name in ("one", "two", "three", "four")]
    first, fourth = (
        save_in("select", photograph(of).resize((64, 64)), tmp_path / f"{name}.png")
        for name, of in (("one", "coffee"), ("four", "gravel"))
    )
    for name, of in (("two", "rocket"), ("three", "china")):
        save_in("test", photograph(of).resize((64, 64)), tmp_path / f"{name}.png", below=first)
    write(tmp_path, lines)
    before = task(f"folder:{tmp_path}")
    path = score_heads(tiny_vlm, before.draw("select", samples=2)).save(tmp_path / "scores.json")
    scores = HeadScores.load(path)
    assert scores.task.pictures == tuple(sorted((first, fourth)))
    joined = {key: value for key, value in GOOD.items() if key != "image"}
    write(tmp_path, [*lines, {**joined, "images": ["one.png", "two.png"]}])
    tested = task(f"folder:{tmp_path}").draw("test", samples=4)
    assert first in tested.facts().pictures
    options = {"fraction": 0.2, "draws": 2, "batch_size": 4}
    with pytest.raises(BadInput, match="1 of these pictures ranked the heads"):
        ablate_top(tiny_vlm, tested, scores, **options)
    assert ablate_top(tiny_vlm, tested, scores, **options, same_samples=True).task.samples == 4


def test_a_picture_that_changed_makes_another_task(folder):
    before = task(f"folder:{folder}")
    photograph("gravel").save(folder / "rocket.png")
    assert repr(task(f"folder:{folder}")) != repr(before) and task(f"folder:{folder}").sha256 != before.sha256


def test_the_seed_shuffles_a_split(folder):
    work = task(f"folder:{folder}")
    count = len(work.dealt["test"])
    orders = {tuple(work.sample("test", seed, place).answer for place in range(count)) for seed in range(8)}
    assert len(orders) > 1 and len({tuple(sorted(order)) for order in orders}) == 1


def test_a_folder_that_changed_is_another_task(folder):
    before = task(f"folder:{folder}")
    (folder / "questions.jsonl").write_text((folder / "questions.jsonl").read_text().replace("there", "here"))
    assert repr(task(f"folder:{folder}")) != repr(before)


def test_there_are_only_so_many_pictures(folder):
    work = task(f"folder:{folder}")
    with pytest.raises(BadInput, match=r"there are \d in select, \d in test"):
        work.sample("test", 0, 99)
    with pytest.raises(BadInput, match="no picture 0 in train"):
        work.sample("train", 0, 0)


GOOD = {"image": "coffee.png", "question": "What?", "answer": "cup", "boxes": [[0, 0, 9, 9]]}
MISTAKES = {
    "no question; found: image, answer, boxes": {key: value for key, value in GOOD.items() if key != "question"},
    "unknown key colour; allowed: question, answer": {**GOOD, "colour": "red"},
    "both image and images": {**GOOD, "images": ["coffee.png"]},
    "neither a picture nor a context": {key: value for key, value in GOOD.items() if key != "image"},
    "there is no evidence": {key: value for key, value in GOOD.items() if key != "boxes"},
    "question is '  '": {**GOOD, "question": "  "},
    "answer is True": {**GOOD, "answer": True},
    "answer is an empty list": {**GOOD, "answer": []},
    "answer is None": {**GOOD, "answer": ["a", None]},
    "answer has 200,000 characters": {**GOOD, "answer": "a" * 200_000},
    "unknown rule 'fuzzy'": {**GOOD, "rule": "fuzzy"},
    "video is 'yes'": {**GOOD, "video": "yes"},
    "seconds are of a clip": {**GOOD, "seconds": 2},
    "seconds is 0": {**GOOD, "seconds": 0, "video": True},
    r"polygon \[0, 0, 'a'\]": {**GOOD, "polygons": [[0, 0, "a"]]},
    "of three corners or more": {**GOOD, "polygons": [[0, 0, 9, 9]]},
    "polygon .* does not lie": {**GOOD, "polygons": [[0, 0, 9999, 9, 9, 9]]},
    "compressed ones are not read": {**GOOD, "masks": [{"size": [9, 9], "counts": "PPQ"}]},
    "the mask is of": {**GOOD, "masks": [{"size": [9, 9], "counts": [81]}]},
    "picture 3 of 1": {**GOOD, "pages": [3]},
    "spans are a list": {**GOOD, "spans": [[0, 3]]},
    r"span \[0, 99\]": {**GOOD, "context": "The cup.", "spans": [[0, 99]]},
    "cannot read the picture .*tea.png": {**GOOD, "image": "tea.png"},
    r"boxes is \[\]": {**GOOD, "boxes": []},
    r"box \[0, 0, 9\]: give": {**GOOD, "boxes": [[0, 0, 9]]},
    "is on picture 1 of 1": {**GOOD, "boxes": [[0, 0, 9, 9, 1]]},
    "does not lie in its picture": {**GOOD, "boxes": [[0, 0, 9999, 9]]},
    "is smaller than a pixel; between 0 and 1 it is norm": {**GOOD, "boxes": [[0.1, 0.2, 0.5, 0.6]]},
    "unknown box_format 'corners'": {**GOOD, "box_format": "corners"},
    r"box_format is \['xywh'\]": {**GOOD, "box_format": ["xywh"]},
    r"\(norm\) does not lie": {**GOOD, "boxes": [[0, 0, 9, 9]], "box_format": "norm"},
    "give four numbers, xyxy": {**GOOD, "boxes": [[False, False, True, True]]},
    "NaN is no number that can be computed with": {**GOOD, "boxes": [[0, 0, float("nan"), 9]]},
    "is on picture True of 1": {**GOOD, "boxes": [[0, 0, 9, 9, True]]},
    "boxes is 7: give a list": {**GOOD, "boxes": 7},
    "distractors is None: give a list": {**GOOD, "distractors": None},
    r"kind is \['a'\]": {**GOOD, "kind": ["a"]},
    "as image, or a list of them as images": {
        **{k: v for k, v in GOOD.items() if k != "image"},
        "images": "coffee.png",
    },
    r"cannot read the picture .*null": {**GOOD, "image": "cof\x00fee.png"},
    r"question is 'What\\ud800\?'": {**GOOD, "question": "What\ud800?"},
}


@pytest.mark.parametrize(
    ("form", "box"),
    [
        ("xyxy", [60, 40, 120, 100]),
        ("xywh", [60, 40, 60, 60]),
        ("norm", [0.1, 0.1, 0.2, 0.25]),
        ("1000", [100, 100, 200, 250]),
    ],
)
def test_boxes_in_the_usual_conventions(tmp_path, form, box):
    photograph("coffee").resize((600, 400)).save(tmp_path / "coffee.png")
    write(tmp_path, [{**GOOD, "boxes": [box], "distractors": [box], "box_format": form}])
    (record,) = task(f"folder:{tmp_path}").records
    assert record.boxes == record.distractors == (Box(60, 40, 120, 100),)


@given(st.tuples(*[st.integers(0, 99)] * 2), st.tuples(*[st.integers(1, 50)] * 2))
@settings(max_examples=50, deadline=None)
def test_conventions_agree(corner, extent):
    (x, y), (width, height), size = corner, extent, (200, 160)
    assume(x + width <= 200 and y + height <= 160)
    corners = (x, y, x + width, y + height)
    share = [value / side for value, side in zip(corners, size * 2, strict=True)]
    wanted = box_from(corners, size)
    for form, box in (("xywh", (x, y, width, height)), ("norm", share), ("1000", [1000 * one for one in share])):
        found = box_from(box, size, form)
        np.testing.assert_allclose(astuple(found), astuple(wanted), atol=1e-9)


@pytest.mark.parametrize("told", MISTAKES)
def test_a_mistake_is_named_with_its_line(folder, told):
    write(folder, [GOOD, MISTAKES[told]])
    with pytest.raises(BadInput, match=told) as caught:
        task(f"folder:{folder}")
    assert "line 2" in str(caught.value)


@pytest.fixture
def cup(tmp_path):
    """One picture of 600 × 400 pixels, and a way to write one line about it."""
    photograph("coffee").resize((600, 400)).save(tmp_path / "coffee.png")

    def read(difficulty=None, **line):
        write(tmp_path, [{"image": "coffee.png", "question": "What?", "answer": "cup", **line}])
        return task(f"folder:{tmp_path}", **(difficulty or {}))

    return read


def one_of(work):
    split = next(split for split, groups in work.dealt.items() if groups)
    return work.sample(split, 0, 0)


def test_several_answers_are_right(cup):
    sample = one_of(cup(answer=[97, "ninety-seven"], pages=[0]))
    assert (sample.answer, sample.accepted) == ("97", ("ninety-seven",))
    assert [score_sample(text, sample) for text in ("Ninety-seven.", "97", "79")] == [1, 1, 0]


def test_a_line_has_a_rule_of_its_own(cup):
    sample = one_of(cup(answer="B", rule="choice", pages=[0]))
    assert score_sample("The answer is (B).", sample) == 1
    assert score_sample("The answer is (B).", replace(sample, rule="")) == 0


def test_a_whole_page_is_evidence(cup):
    assert one_of(cup(pages=[0])).evidence == (Box(0, 0, 600, 400),)


def test_outlines_and_masks_mark_what_lies_in_them(cup):
    triangle = one_of(cup(polygons=[[100, 100, 300, 100, 100, 300]])).evidence[0]
    assert triangle.area == pytest.approx(200 * 200 / 2, rel=0.01) and triangle.x1 == pytest.approx(300, abs=1)
    grid = Grid(rows=4, columns=6, width=600, height=400, patch=50, merge=2)
    share = coverage(grid, triangle).reshape(4, 6)
    assert share[1, 1] == pytest.approx(1, abs=0.02) and share[1, 2] == pytest.approx(0.5, abs=0.02)
    assert share[2, 2] < 0.02 and share[0].sum() == 0
    pixels = np.zeros((400, 600), dtype=bool)
    pixels[100:150, 200:220] = True
    runs = [len(list(group)) for _, group in groupby(pixels.T.ravel())]
    mask = one_of(cup(masks=[{"size": [400, 600], "counts": runs}])).evidence[0]
    assert np.array_equal(mask.pixels, pixels) and mask.runs == tuple(runs)
    assert (mask.x0, mask.y0, mask.x1, mask.y1) == (200, 100, 220, 150)


@given(arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))))
def test_a_mask_comes_back(pixels):
    if not pixels.any():
        with pytest.raises(BadRegion, match="marks no pixel"):
            Mask.of(pixels)
        return
    mask = Mask.of(pixels)
    assert np.array_equal(mask.pixels, pixels) and mask.area == pixels.sum()
    assert Mask.of_runs(mask.runs, mask.size) == mask
    height, width = pixels.shape
    grid = Grid(rows=height, columns=width, width=width, height=height, patch=1, merge=1)
    assert np.array_equal(coverage(grid, mask).reshape(pixels.shape) > 0, pixels)


def test_large_pictures_are_shown_smaller(cup):
    whole = {"size": [400, 600], "counts": [0, 240_000]}
    work = cup(difficulty={"max_pixels": 60_000}, boxes=[[60, 40, 120, 100]], masks=[whole])
    sample = one_of(work)
    assert sample.images[0].size == (300, 200)
    assert sample.evidence[0] == Box(30, 20, 60, 50) and sample.evidence[1].size == (300, 200)
    assert work.facts["difficulty"] == {"max_pixels": 60_000}
    with pytest.raises(BadInput, match="max_pixels is -1"):
        cup(difficulty={"max_pixels": -1}, pages=[0])


def test_max_pixels_of_the_command_line(cup, tmp_path, run):
    cup(boxes=[[60, 40, 300, 300]])
    arguments = ["score", "--model", "tiny-random:qwen3-vl", "--domain", f"folder:{tmp_path}", "--samples", "1"]
    split = next(split for split, groups in task(f"folder:{tmp_path}").dealt.items() if groups)
    arguments += ["--split", split, "--out", tmp_path / "s.json", "--max-pixels"]
    assert run(*arguments, "10000").returncode == 0
    assert HeadScores.load(tmp_path / "s.json").task.difficulty == {"max_pixels": 10_000}
    refused = run(*arguments, "-1")
    assert refused.returncode == 2 and "max_pixels is -1" in refused.stderr


def test_a_clip_of_frames(tmp_path):
    for number in range(4):
        photograph("coffee").resize((64, 64)).rotate(10 * number).save(tmp_path / f"{number}.png")
    line = {"images": [f"{n}.png" for n in range(4)], "question": "When?", "answer": "1", "boxes": [[0, 0, 32, 32, 2]]}
    write(tmp_path, [{**line, "video": True, "seconds": 0.5}, line])
    work = task(f"folder:{tmp_path}")
    places = [(split, place) for split, groups in work.dealt.items() for place in range(len(groups))]
    samples = [work.sample(split, 0, place) for split, place in places]
    clip, pages = sorted(samples, key=lambda one: not one.video)
    assert (clip.video, clip.seconds, pages.video) == (True, 0.5, False) and clip.cluster != pages.cluster
    qwen = load("tiny-random:qwen3-vl")
    words = qwen.tokenizer.decode(qwen.encode([clip], answers=False).tokens[0])
    assert "<0.2 seconds>" in words and "<1.2 seconds>" in words  # slices of two frames, half a second apart


def test_a_text_without_a_picture(tmp_path):
    line = {"context": "The cup is red.", "question": "Which colour has the cup?", "answer": "red", "spans": [[11, 14]]}
    write(tmp_path, [line])
    sample = one_of(task(f"folder:{tmp_path}"))
    assert not sample.images and sample.context[slice(*sample.spans[0])] == "red"
    tiny = load("tiny-random:smolvlm")
    batch = tiny.encode([sample])
    assert tiny.tokenizer.decode(batch.tokens[0][batch.evidence[0]]) == "red"


@pytest.mark.parametrize(
    "wrong",
    [
        {"boxes": 7}, {"distractors": None}, {"boxes": [[False, False, True, True]]}, {"kind": ["a"]},
        {"image": "a\0.png"},
        {"image": "\ud800.png"}, {"question": "\ud800?"}, {"image": "a" * 5000}, {"answer": float("nan")},
        {"boxes": [[0, 0, 10**400, 9]]}, {"boxes": [[0, 0, float("inf"), 9]]}, {"answer": 10**400},
        {"answer": "x" * 10**6},
        {"video": True, "seconds": 10**400}, {"rule": ["exact"]}, {"box_format": 7}, {"image": "pipe"},
        {"image": "/dev/zero"},
    ],
)  # fmt: skip
def test_any_value_in_a_line_is_read_or_named(folder, wrong):
    """Before anything is measured; the message names the line."""
    os.mkfifo(folder / "pipe")
    write(folder, [GOOD, {**GOOD, **wrong}])
    with pytest.raises(BadInput, match=r"questions.jsonl, line 2: "):
        task(f"folder:{folder}")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=2), max_leaves=6,
)  # fmt: skip


@given(key=st.sampled_from(KEYS), value=VALUES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_ends_in_another_error(folder, key, value):
    line = json.dumps({**GOOD, **({"images": None} if key == "images" else {}), key: value})
    with suppress(BadInput):
        record(line, folder, {})


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**5, "1" * 5000, "NaN", b"\xff"])
def test_a_line_that_is_no_object_is_named(folder, text):
    (folder / "questions.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match="line 1: "):
        task(f"folder:{folder}")


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(BadInput, match=r"folder with questions.jsonl"):
        task(f"folder:{tmp_path}")
    (tmp_path / "questions.jsonl").write_text("{")
    with pytest.raises(BadInput, match="line 1: not JSON"):
        task(f"folder:{tmp_path}")
    (tmp_path / "questions.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="no record"):
        task(f"folder:{tmp_path}")
    with pytest.raises(BadInput, match="leave pages away"):
        task(f"folder:{tmp_path}", pages=3)


# --- heads are removed on a folder of one's own ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Eight pictures, four in each split, with two questions each."""
    folder = tmp_path_factory.mktemp("own")
    lines = []
    for place, name in enumerate(("coffee", "rocket", "chelsea", "china", "flower", "astronaut", "retina", "brick")):
        save_in(DEALT[place % 2], photograph(name).resize((96, 96)), folder / f"{name}.png")
        for number in range(2):
            box = [10, 10 + 30 * number, 60, 40 + 30 * number]
            lines.append({"image": f"{name}.png", "question": f"What is {number}?", "answer": name, "boxes": [box]})
    write(folder, lines)
    return task(f"folder:{folder}")


@pytest.fixture(scope="module")
def tiny_vlm():
    return load("tiny-random:smolvlm")


@pytest.fixture(scope="module")
def ranking(own, tiny_vlm):
    return score_heads(tiny_vlm, own.draw("select", samples=4))


@pytest.mark.parametrize(("samples", "questions", "batch_size"), [(8, 2, 4), (3, 1, 2), (3, 1, 1)])
def test_chance_is_of_the_same_samples_as_all_else(own, tiny_vlm, ranking, monkeypatch, samples, questions, batch_size):
    """All that is answered, with its own picture or with another one, is what was drawn, and about as much at once."""
    draw, seen, encode = own.draw("test", samples=samples, questions=questions), {}, type(tiny_vlm).encode

    def spy(vlm, given, **options):
        given = list(given)
        own_picture = bool(given[0].evidence)
        seen.setdefault(own_picture, []).append([(one.index, one.question) for one in given])
        return encode(vlm, given, **options)

    monkeypatch.setattr(type(tiny_vlm), "encode", spy)
    found = ablate_top(tiny_vlm, draw, ranking, fraction=0.2, draws=2, batch_size=batch_size)
    assert seen[True] == seen[False][::2] == seen[False][1::2]  # the same batches: swapped, and with grey pictures
    assert [one for batch in seen[True] for one in batch] == [(one.index, one.question) for one in draw]
    assert 0 <= found.chance <= 1 and found.task.samples == samples and found.task.sha256 == own.sha256


def test_more_pictures_than_there_are_are_not_begun_with(own):
    with pytest.raises(
        BadInput, match=r"has 4 pictures in test, and 10 samples with 2 questions .* need 5: ask for few"
    ):
        own.draw("test", samples=10, questions=2)
    with pytest.raises(BadInput, match=r"has 0 pictures in train.*there are pictures in select, test"):
        own.draw("train", samples=1)


def test_the_mean_is_that_of_as_many_pictures_as_there_are(own, tiny_vlm, ranking):
    """A folder has fewer than 64 pictures in `select`; with none at all there is no mean."""
    found = ablate_top(tiny_vlm, own.draw("test", samples=4), ranking, fraction=0.2, mode="mean", draws=2, batch_size=4)
    assert found.mode == "mean" and found.conditions.core.loss.logprob.value != 0
    empty = replace(own, sha256="another one")
    vars(empty)["dealt"] = {**own.dealt, "select": []}
    with pytest.raises(BadInput, match="no picture in select: mode 'mean' takes its means there"):
        ablate_top(tiny_vlm, empty.draw("test", samples=4), ranking, fraction=0.2, mode="mean", draws=2)


# --- the hub ---------------------------------------------------------------------------------------------------------


def picture(seed: int = 0, encoded: bool = False):
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    if not encoded:
        return image
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": "x.png"}


ROWS = {
    "refcocog": {
        "question_id": "1", "image": picture(), "question": "Describe.", "file_name": "a.jpg", "iscrowd": 0,
        "answer": ["the left cup", "a cup"], "bbox": [10, 20, 30, 25], "segmentation": [10, 20, 40, 20, 40, 45],
    },
    "refcoco-m": {
        "image": picture(encoded=True), "image_id": 7, "file_name": "a.jpg",
        "samples": [{"bbox": [10, 20, 30, 25], "sentences": ["the left cup", "a cup"], "category": "cup"}],
    },
    "mmdocir": {
        "doc_name": "d", "domain": "laws", "page_indices": [0, 2],
        "pages": {0: picture(0, encoded=True), 1: picture(1, encoded=True)},
        "questions": [
            {"Q": "What?", "A": [5, "7"], "type": "Table", "page_id": [1],
             "layout_mapping": [{"page": 1, "page_size": [160, 120], "bbox": [20, 40, 80, 90]}]},
            {"Q": "Where?", "A": "here", "type": "Text", "page_id": [0],
             "layout_mapping": [{"page": 0, "page_size": [160, 120], "bbox": [20, 40, 80, 90]}]},
            {"Q": "Nowhere?", "A": "Not answerable", "type": "Text", "page_id": [], "layout_mapping": []},
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_rows_become_records(name, monkeypatch):
    monkeypatch.setattr(Hub, "rows", lambda self: [ROWS[name]] * 2)
    work = task(f"hub:{name}")
    record = work.records[0]
    page = len(record.read()) - 1
    assert record.boxes == (Box(10, 20, 40, 45, image=page),) and record.read()[page].size == (80, 60)
    asked = (
        ("What?", "5, 7") if name == "mmdocir" else ("Is there the left cup in the picture? Answer yes or no.", "yes")
    )
    assert (record.question, record.answer) == asked and len(work.records) == 4
    assert work.facts["source"] == SOURCES[name].id
    assert all(work.available(split, 64) == len(groups) for split, groups in work.dealt.items())


def test_documents_get_their_pages(monkeypatch):
    """Two files in the shape of MMDocIR: documents, each with its range of rows among all pages."""
    numbers = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    pages = [{"doc_name": name, "passage_id": str(n), "image_binary": picture(n)} for name, n in numbers]
    ranges = {"a": [0, 3], "b": [3, 5]}
    documents = [{**ROWS["mmdocir"], "doc_name": name, "page_indices": rows} for name, rows in ranges.items()]
    opened = []

    def load_dataset(kind, *, streaming, data_files, split):
        opened.append((kind, data_files))
        return iter(documents if kind == "json" else pages)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    rows = list(replace(task("hub:mmdocir"), revision="abc").rows())
    assert [(row["doc_name"], list(row["pages"])) for row in rows] == [("a", [0, 1, 2]), ("b", [0, 1])]
    assert opened[0] == ("json", "hf://datasets/MMDocIR/MMDocIR_Evaluation_Dataset@abc/MMDocIR_annotations.jsonl")
    with pytest.raises(BadResults, match="a page of b stands among those of a"):
        list(with_pages([{**documents[0], "page_indices": [2, 4]}], pages))


@pytest.mark.parametrize("name", SOURCES)
def test_a_model_is_profiled_on_a_data_set(name, monkeypatch):
    monkeypatch.setattr(Hub, "rows", lambda self: [ROWS[name]])
    work = task(f"hub:{name}")
    split = next(split for split, groups in work.dealt.items() if groups)
    scores = score_heads(load("tiny-random:smolvlm"), work.draw(split, samples=1))
    assert scores.task.domain == f"hub:{name}" and np.isfinite(scores).all()


@pytest.mark.parametrize("name", SOURCES)
def test_a_column_that_is_not_there_is_named_with_those_that_are(name, monkeypatch):
    column = SOURCES[name].columns[0]
    row = {key: value for key, value in ROWS[name].items() if key != column}
    monkeypatch.setattr(Hub, "rows", lambda self: [row])
    with pytest.raises(BadResults, match=f"has no column {column}; found: .*{sorted(row)[0]}"):
        _ = task(f"hub:{name}").records


def test_what_is_said_without_the_package_or_the_network(monkeypatch):
    with pytest.raises(UnknownName, match="did you mean 'refcocog'"):
        _ = task("hub:refcoco").records
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPackage, match="pip install datasets"):
        _ = task("hub:refcocog").records

    def unreachable(*args, **options):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=unreachable))
    with pytest.raises(HubUnreachable, match=r"ConnectionError: no route.*folder:PATH"):
        _ = task("hub:refcocog").records
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *a, **o: iter([])))
    with pytest.raises(BadResults, match="there is no row"):
        _ = task("hub:refcocog").records


# --- was it right? ---------------------------------------------------------------------------------------------------


def test_scoring_by_hand():
    assert normalise("  The Kettle. ") == "kettle" and normalise("É-5") == "é-5"
    assert (
        score_answer("Kettle", "the kettle")
        and score_answer("7 apples", "7")
        and not score_answer("77", "7")
        and not score_answer("", "7")
    )
    assert (
        option_letter("I think (C), not A") == "C"
        and score_answer("B.", "(B)", "choice")
        and not score_answer("none", "B", "choice")
    )
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3) and overlap((0, 0, 0, 2), (0, 0, 1, 2)) == 0
    assert box_of("[1, 2, 3]") == ()
    assert score_answer("[0, 0, 10, 10]", "[0, 0, 10, 6]", "box") and not score_answer(
        "[0, 0, 10, 10]", "[0, 0, 10, 4]", "box"
    )
    assert not score_answer("somewhere", "[0, 0, 10, 4]", "box")
    with pytest.raises(BadInput, match="is no box"):
        score_answer("[0, 0, 10, 10]", "left", "box")
    with pytest.raises(UnknownName, match="rule"):
        score_answer("a", "b", "fuzzy")


@pytest.mark.parametrize(
    ("told", "answer", "right"),
    [
        ("蓝色", "红色", 0), ("红色", "红色", 1), ("нет", "да", 0), ("НЕТ.", "нет", 1), ("が", "か", 0),
        ("Straße", "STRASSE", 1),
        ("5", "-5", 0), ("−5", "-5", 1), ("- 5", "5", 1), ("12", "½", 0), ("1/2", "½", 1),
        ("1,000", "1000", 1), ("1,5", "15", 0),
        (".5", "0.5", 1), ("٣", "3", 1), ("", "A", 0), ("A", "A", 1), ("?", "!", 0), ("", "", 0),
        ("€5", "$5", 0), ("x-ray", "x ray", 0),
        ("２０", "20", 1), ("5 %", "5%", 1), ("5", "5%", 0), ("the 7", "7", 1), ("10:45", "10:45.", 1),
        ("77", "7", 0), ("-.5", "−0.5", 1), ("0/a", "0", 0), ("naïve", "naive", 0),
    ],
)  # fmt: skip
def test_answers_in_any_script_are_compared(told, answer, right):
    assert score_answer(told, answer) == right


@given(st.text(max_size=12), st.text(max_size=12))
@settings(max_examples=2000, deadline=None)
def test_what_is_normal_stays_so(one, other):
    assert normalise(normalise(one)) == normalise(one)
    if normalise(one):
        assert score_answer(one, one) == 1
    else:
        assert score_answer(other, one) == 0


@pytest.mark.parametrize(
    ("told", "letter"),
    [
        ("A is correct", "A"), ("(b)", "B"), ("b.", "B"), ("b", "B"), ("the answer is c.", "C"),
        ("A kettle", ""), ("I think so", ""),
        ("Answer: D", "D"), ("[a] since it is red", "A"), ("a kettle", ""), ("B: the kettle", "B"),
        ("", ""), ("I'm sure", ""),
    ],
)  # fmt: skip
def test_the_letter_of_an_option(told, letter):
    assert option_letter(told) == letter


@pytest.mark.parametrize(
    "text",
    [
        '{"bbox_2d": [10, 20, 30, 40]}', "<box>[[10, 20, 30, 40]]</box>", "(10,20),(30,40)",
        "x0=10, y0=20, x1=30, y1=40",
        "picture 1: [10, 20, 30, 40]", "[10.0 20.0 30.0 40.0]",
    ],
)  # fmt: skip
def test_boxes_as_models_write_them(text):
    assert box_of(text) == (10, 20, 30, 40)
    assert score_answer(text, "[10, 20, 30, 40]", "box") == 1


def test_a_picture_of_the_hub_is_decoded_or_bytes():
    picture, file = Image.new("RGB", (3, 2)), io.BytesIO()
    picture.save(file, "PNG")
    assert shown(picture).size == (3, 2)
    assert shown(file.getvalue()).size == shown({"bytes": file.getvalue(), "path": None}).size == (3, 2)
    for strange in (7, {"path": "a.png"}):
        with pytest.raises(BadResults, match="a picture of the set is a"):
            shown(strange)
