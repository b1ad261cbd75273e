"""How the rows of public sets become lines of a folder, a function a format. `convert.py` says what each of them is."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from corelib.core.errors import BadInput, MissingPackage
from corelib.core.results import write_whole
from corelib.tasks.hub import asked_for
from corelib.tasks.mmdocir import answer_text, page_window, share_of_page

Row = Mapping[str, Any]
Line = dict[str, Any]
ENDINGS = (".jpg", ".png", ".jpeg", ".webp")
POINTS = 72  # of a PDF, to an inch
DOTS = 144  # of a rendered page, to an inch


@dataclass(frozen=True)
class Where:
    """Where the pictures are, where the lines go, and how pages are taken."""

    images: Path
    out: Path
    pages: int = 8  # shown with a question, at most
    first_page: int = 0  # the number of a document's first page


class Skipped(Exception):
    """A row that cannot be asked, and why."""


Make = Callable[[Where], Line]


def _rows(content: Any, key: str = "") -> Sequence[Row]:
    found = content.get(key) if key and isinstance(content, dict) else content
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise BadInput(f"found {type(content).__name__}: give a list of rows{' under ' + key if key else ''}")
    return found


def _coco(content: Any) -> Iterator[Make]:
    """One question for each category of each picture."""
    if not isinstance(content, dict):
        raise BadInput("this is a list: COCO has images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        _rows(content, key)
    files = {row["id"]: row for row in content["images"]}
    names = {row["id"]: str(row["name"]) for row in content["categories"]}
    found: dict[tuple[Any, Any], list[Row]] = defaultdict(list)
    for row in content["annotations"]:
        found[row["image_id"], row["category_id"]].append(row)
    for (image, category), marks in found.items():
        yield lambda where, image=image, category=category, marks=marks: _coco_line(  # type: ignore[misc]
            where, files[image], names[category], marks
        )


def _coco_line(where: Where, image: Row, name: str, marks: Sequence[Row]) -> Line:
    single = [mark for mark in marks if not mark.get("iscrowd", 0)]
    if len(single) < len(marks):
        raise Skipped("a crowd of its kind is in the picture")
    width, height = image["width"], image["height"]
    line: Line = {
        "image": _beside(where, where.images / image["file_name"]),
        "question": asked_for(_a(name)),
        "answer": "yes",
        "kind": name,
    }
    polygons = [_inside(part, width, height) for mark in single for part in mark.get("segmentation") or [] if part]
    if polygons and all(isinstance(mark.get("segmentation"), list) for mark in single):
        return {**line, "polygons": polygons}
    boxes = [[max(0, x), max(0, y), min(width - max(0, x), w), min(height - max(0, y), h)] for x, y, w, h in
             (mark["bbox"] for mark in single)]  # fmt: skip
    return {**line, "boxes": boxes, "box_format": "xywh"}


def _inside(part: Sequence[float], width: float, height: float) -> list[float]:
    """Corners that rounding put outside are on the border."""
    return [min(max(value, 0), (width, height)[k % 2]) for k, value in enumerate(part)]


def _a(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _refcoco(content: Any) -> Iterator[Make]:
    for row in _rows(content):
        phrases = row["sentences"] if "sentences" in row else row["answer"]
        for phrase in phrases if isinstance(phrases, list) else [phrases]:
            said = str(phrase["sent"] if isinstance(phrase, dict) else phrase)
            yield lambda where, row=row, said=said: {  # type: ignore[misc]
                "image": _beside(where, where.images / str(row["file_name"])),
                "question": asked_for(said),
                "answer": "yes",
                "boxes": [list(row["bbox"])],
                "box_format": "xywh",
            }


def _docvqa(content: Any) -> Iterator[Make]:
    for row in _rows(content, "data"):
        yield lambda where, row=row: _docvqa_line(where, row)  # type: ignore[misc]


def _docvqa_line(where: Where, row: Row) -> Line:
    if "page_ids" not in row or "answer_page_idx" not in row:
        raise Skipped("it says on no page where its answer stands (single-page DocVQA does not)")
    place, many = int(row["answer_page_idx"]), len(row["page_ids"])
    first = min(max(0, place - where.pages // 2), max(0, many - where.pages))
    shown = row["page_ids"][first : first + where.pages]
    files = [_beside(where, _picture(where.images, str(name))) for name in shown]
    question = {"images": files, "question": row["question"], "answer": list(row["answers"])}
    return {**question, "pages": [place - first]}


def _mmdocir(content: Any) -> Iterator[Make]:
    for row in _rows(content):
        for asked in row["questions"]:
            yield lambda where, row=row, asked=asked: _mmdocir_line(  # type: ignore[misc]
                where, str(row["doc_name"]), asked
            )


def _mmdocir_line(where: Where, document: str, asked: Row) -> Line:
    marks = asked["layout_mapping"]
    if not marks:
        raise Skipped("it has no layout")
    places = [int(mark["page"]) - where.first_page for mark in marks]
    window = page_window(places, where.pages)
    if window is None:
        raise Skipped(f"its evidence lies on pages that are more than {where.pages} apart")
    pages = _pages(where, document, window, set(places))
    order = list(pages)
    boxes = [[*share_of_page(mark), order.index(place)] for mark, place in zip(marks, places, strict=True)]
    line: Line = {"images": list(pages.values()), "question": asked["Q"], "answer": answer_text(asked["A"])}
    return {**line, "kind": str(asked.get("type", "question")), "boxes": boxes, "box_format": "norm"}


def _pages(where: Where, document: str, wanted: range, needed: set[int]) -> dict[int, str]:
    """The pages of a document that are there, by their places from 0."""
    name = document.removesuffix(".pdf")
    pdf = where.images / f"{name}.pdf"
    if pdf.is_file():
        return _rendered(where, pdf, wanted)
    found = {}
    for place in wanted:
        number = place + where.first_page
        try:
            found[place] = _beside(where, _picture(where.images, f"{name}/{number}", f"{name}_{number}"))
        except BadInput:
            if place in needed:
                raise
    return found


def _rendered(where: Where, pdf: Path, wanted: range) -> dict[int, str]:
    """Pages of a PDF as pictures, beside the lines; those that are there already are left as they are."""
    if find_spec("pypdfium2") is None:
        raise MissingPackage("PDFs are rendered by pypdfium2: pip install pypdfium2, or give their pages as pictures")
    import pypdfium2

    folder = where.out / "pages" / pdf.stem
    folder.mkdir(parents=True, exist_ok=True)
    with pypdfium2.PdfDocument(pdf) as document:
        found = {place: folder / f"{place}.png" for place in wanted if place < len(document)}
        for place, file in found.items():
            if not file.is_file():
                image = document[place].render(scale=DOTS / POINTS).to_pil()
                write_whole(file, lambda beside, image=image: image.save(beside, format="PNG"))  # type: ignore[misc]
    return {place: _beside(where, file) for place, file in found.items()}


def _picture(folder: Path, *names: str) -> Path:
    """The file of a picture that is named without its ending, or with it.

    Raises: BadInput if there is none.
    """
    for name in names:
        for ending in ("", *ENDINGS):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    raise BadInput(f"{folder / names[0]} is not there, with any of the endings {', '.join(ENDINGS)}")


def _beside(where: Where, file: Path) -> str:
    """How the lines name a file: seen from their folder."""
    return Path(os.path.relpath(file.resolve(), where.out.resolve())).as_posix()


FORMATS: dict[str, Callable[[Any], Iterator[Make]]] = {
    "coco": _coco, "refcoco": _refcoco, "docvqa": _docvqa, "mmdocir": _mmdocir
}  # fmt: skip
