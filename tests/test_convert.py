"""Rows in the shape of public sets become lines of a folder; the pictures are real, the rows made here."""

from __future__ import annotations

import json

import pytest
from matplotlib.figure import Figure

from corelib import Box, task
from corelib.core.errors import BadInput, UnknownName
from corelib.core.geometry import Mask
from corelib.tasks.assets import photograph
from corelib.tasks.convert import convert


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("coffee", "chelsea"):
        photograph(name).convert("RGB").resize((600, 400)).save(folder / f"{name}.jpg")
    return folder


def put(folder, content, name="set.json"):
    (folder / name).write_text(json.dumps(content))
    return folder / name


def samples(folder):
    work = task(f"folder:{folder}")
    found = [work.questions_for(split, 0, n, len(group)) for split, groups in work.dealt.items() for n, group in
             enumerate(groups)]  # fmt: skip
    return {one.question: one for group in found for one in group}


COCO = {
    "images": [{"id": 7, "file_name": "coffee.jpg", "width": 600, "height": 400}],
    "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "apple"}, {"id": 3, "name": "person"}],
    "annotations": [
        {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40], "segmentation": [[10, 20, 40, 20, 40, 60, 10, 60]]},
        {"image_id": 7, "category_id": 1, "bbox": [100, 20, 30, 40], "segmentation": [[100, 20, 600.2, 20, 100, 60]]},
        {"image_id": 7, "category_id": 2, "bbox": [10, 20, 30, 40]},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1, "segmentation": {"counts": [1]}},
    ],
}


def test_coco(images, tmp_path):
    done = convert("coco", put(tmp_path, COCO), images, tmp_path / "out")
    assert done.lines == 2 and done.skipped == {"a crowd of its kind is in the picture": 1}
    found = samples(tmp_path / "out")
    cups = found["Is there a cup in the picture? Answer yes or no."]
    assert [type(one) for one in cups.evidence] == [Mask, Mask] and cups.answer == "yes" and cups.kind == "cup"
    assert cups.evidence[0].area == pytest.approx(30 * 40, rel=0.03)
    assert found["Is there an apple in the picture? Answer yes or no."].evidence == (Box(10, 20, 40, 60),)


def test_refcoco(images, tmp_path):
    rows = [
        {"file_name": "coffee.jpg", "bbox": [10.5, 20, 30, 40], "sentences": [{"sent": "the cup."}, {"sent": "it"}]},
        {"file_name": "chelsea.jpg", "bbox": [0, 0, 600, 400], "answer": ["the cat"]},
    ]
    (tmp_path / "refs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert convert("refcoco", tmp_path / "refs.jsonl", images, tmp_path / "out").lines == 3
    found = samples(tmp_path / "out")
    assert found["Is there the cup in the picture? Answer yes or no."].evidence == (Box(10.5, 20, 40.5, 60),)


def test_docvqa_shows_pages_around_the_answer(images, tmp_path):
    for number in range(6):
        photograph("coffee").convert("RGB").resize((60, 80 + number)).save(images / f"doc_p{number}.png")
    row = {"question": "What is the total?", "answers": ["97", "ninety-seven"], "answer_page_idx": 4,
           "page_ids": [f"doc_p{number}" for number in range(6)]}  # fmt: skip
    single = {"question": "What?", "answers": ["a"], "image": "coffee.jpg"}
    done = convert("docvqa", put(tmp_path, {"data": [row, single]}), images, tmp_path / "out", pages=3)
    assert done.lines == 1 and sum(done.skipped.values()) == 1
    (sample,) = samples(tmp_path / "out").values()
    assert [image.height for image in sample.images] == [83, 84, 85] and sample.evidence == (Box(0, 0, 60, 84, 1),)
    assert (sample.answer, sample.accepted) == ("97", ("ninety-seven",))


def mmdocir(**more):
    mark = {"page": 2, "page_size": [612, 792], "bbox": [61.2, 79.2, 306, 396]}
    return {"doc_name": "report.pdf", "questions": [{"Q": "How much?", "A": ["5", "7"], "type": "Table", "page_id": [2],
                                                     "layout_mapping": [{**mark, **more}]}]}  # fmt: skip


def test_boxes_in_points_of_a_page(images, tmp_path):
    (images / "report").mkdir()
    for number in range(4):
        photograph("coffee").convert("RGB").resize((306, 396)).save(images / "report" / f"{number}.png")
        photograph("coffee").rotate(number).convert("RGB").resize((306, 396)).save(images / "report" / f"{number}.png")
    convert("mmdocir", put(tmp_path, [mmdocir()]), images, tmp_path / "out", pages=2)
    (sample,) = samples(tmp_path / "out").values()
    assert len(sample.images) == 2 and sample.answer == "5, 7" and sample.kind == "Table"
    (box,) = sample.evidence
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((30.6, 39.6, 153, 198)) and box.image in (0, 1)


def test_pages_of_a_pdf_are_rendered(images, tmp_path):
    """A page of 612 × 792 points with one black square in it: the box of the file is where the square is."""
    pytest.importorskip("pypdfium2")
    from matplotlib.backends.backend_pdf import PdfPages

    with PdfPages(images / "report.pdf") as pdf:
        for number in range(4):
            page = Figure(figsize=(8.5, 11))
            if number == 2:  # a tenth to a half from the left, and from the top
                page.add_axes((0.1, 0.5, 0.4, 0.4), facecolor="black", xticks=[], yticks=[])
            pdf.savefig(page)
    convert("mmdocir", put(tmp_path, [mmdocir()]), images, tmp_path / "out", pages=3)
    (sample,) = samples(tmp_path / "out").values()
    assert {image.size for image in sample.images} == {(1224, 1584)}
    (box,) = sample.evidence
    page = sample.images[box.image].convert("L")
    inside = page.crop((round(box.x0) + 4, round(box.y0) + 4, round(box.x1) - 4, round(box.y1) - 4))
    assert inside.getextrema() == (0, 0) and page.getpixel((round(box.x0) - 8, round(box.y0) - 8)) == 255


@pytest.mark.parametrize(
    ("form", "content", "says"),
    [
        ("coco", [], "this is a list: COCO has images"),
        ("coco", {"images": 3, "annotations": [], "categories": []}, "a list of rows under images"),
        ("coco", {"images": [], "annotations": [], "categories": []}, "it has no row"),
        ("coco", {**COCO, "categories": []}, "is not coco"),
        ("refcoco", [{"file_name": "tea.jpg", "bbox": [0, 0, 1, 1], "sentences": ["x"]}], "cannot read the picture"),
        ("refcoco", [{"file_name": "coffee.jpg", "bbox": [0, 0, 9999, 1], "sentences": ["x"]}], "question 1: box .*"),
        ("refcoco", [{"file_name": "coffee.jpg"}], "is not refcoco"),
        ("docvqa", {"data": [{"question": "?"}]}, "says on no page"),
        ("mmdocir", [mmdocir(page=0) | {"doc_name": "other"}], "other/0 is not there"),
    ],
)  # fmt: skip
def test_what_is_of_another_format_is_refused_and_nothing_is_written(images, tmp_path, form, content, says):
    with pytest.raises(BadInput, match=says):
        convert(form, put(tmp_path, content), images, tmp_path / "out")
    assert not (tmp_path / "out" / "questions.jsonl").exists()


def test_a_list_is_not_overwritten(images, tmp_path):
    source = put(tmp_path, COCO)
    convert("coco", source, images, tmp_path / "out", limit=1)
    with pytest.raises(BadInput, match="there already"):
        convert("coco", source, images, tmp_path / "out")
    with pytest.raises(UnknownName, match="unknown format 'voc'"):
        convert("voc", source, images, tmp_path / "new")
    with pytest.raises(BadInput, match="is no folder"):
        convert("coco", source, tmp_path / "none", tmp_path / "new")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BadInput, match="neither JSON nor"):
        convert("coco", tmp_path / "bad.json", images, tmp_path / "new")


def test_on_the_command_line(images, tmp_path, run):
    done = run("convert", "coco", put(tmp_path, COCO), "--images", images, "--out", tmp_path / "out")
    assert done.returncode == 0 and "2 questions" in done.stdout and "left out: 1, a crowd" in done.stdout
    again = run("convert", "coco", put(tmp_path, COCO), "--images", images, "--out", tmp_path / "out")
    assert again.returncode == 2 and "there already" in again.stderr
