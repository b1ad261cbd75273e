"""From the formats of public sets to the lines of a `folder:`.

    corelib convert coco instances_val2017.json --images val2017 --out my-coco
    corelib score --domain folder:my-coco --model … --out scores.json

| format | the file | what is asked | evidence |
|---|---|---|---|
| `coco` | JSON with `images`, `annotations`, `categories` | Is there a dog? | all dogs, as outlines or boxes |
| `refcoco` | rows with `file_name`, `bbox` [x, y, width, height], `sentences` | Is there *phrase*? | that object |
| `docvqa` | `data` with `page_ids`, `answers`, `answer_page_idx` (MP-DocVQA) | the set's question | the page |
| `mmdocir` | rows with `doc_name` and `questions`; boxes in points of a PDF page | the set's question | the layouts |

Rows are a JSON list, or a line each. Where a picture has a crowd of a category, nothing is asked about that. The pages
of MMDocIR are `IMAGES/DOCUMENT/NUMBER.jpg` (or .png, or `DOCUMENT_NUMBER.jpg`), or `IMAGES/DOCUMENT.pdf`, which is
rendered (package pypdfium2). No picture is copied: lines name them where they lie, and rendered pages lie beside the
lines. Every line is read back before it is written.

Source: the sets' own descriptions (cocodataset.org; refer, Yu et al. 2016; MP-DocVQA, Tito et al. 2022; MMDocIR's
README). The sets themselves were not at hand.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corelib.core.errors import BadInput, check_known
from corelib.core.progress import Progress, silent
from corelib.core.results import check_writable, write_whole
from corelib.tasks.convert_formats import FORMATS, Skipped, Where
from corelib.tasks.folder import FILE
from corelib.tasks.folder_record import Seen, record


@dataclass(frozen=True)
class Converted:
    """What was written, and why other rows were not."""

    file: Path
    lines: int
    skipped: dict[str, int]  # reason: how many


def convert(
    form: str, source: str | Path, images: str | Path, out: str | Path, *, pages: int = 8, first_page: int = 0,
    limit: int = 0, progress: Progress = silent,
) -> Converted:  # fmt: skip
    """Write `questions.jsonl` into the folder `out` from a file of a public set.

    Args:
        form: The format: coco, refcoco, docvqa or mmdocir.
        source: The set's file, JSON or JSON lines.
        images: The folder with its pictures, pages or PDFs.
        out: A folder, which is made; a list of questions in it is not overwritten.
        pages: Of a document, so many are shown with a question at most, among them those with evidence.
        first_page: The number that the set gives to a document's first page, 0 or 1.
        limit: Stop after so many questions; 0: write all.
        progress: Told how many rows are done.

    Raises: BadInput if the file is not of this format, nothing of it can be asked, a picture is missing, or `out` has
        a list already; MissingPackage if PDFs are to be rendered without pypdfium2.
    """
    read = FORMATS[check_known("format", form, FORMATS)]
    where = Where(Path(images), Path(out), pages, first_page)
    if not where.images.is_dir():
        raise BadInput(f"{where.images} is no folder: give that of the pictures as images")
    if pages < 1 or first_page not in (0, 1) or limit < 0:
        raise BadInput(f"pages={pages}, first_page={first_page}, limit={limit}: give 1 or more, 0 or 1, and 0 or more")
    target = where.out / FILE
    if target.exists():
        raise BadInput(f"{target} is there already: choose another folder")
    rows = read(_content(Path(source)))
    where.out.mkdir(parents=True, exist_ok=True)
    check_writable(target)
    seen: dict[Path, Seen] = {}
    lines: list[str] = []
    skipped: Counter[str] = Counter()
    number = 0
    try:
        for number, make in enumerate(rows, 1):
            if limit and len(lines) >= limit:
                break
            try:
                line = json.dumps(make(where), ensure_ascii=False)
            except Skipped as reason:
                skipped[str(reason)] += 1
                continue
            record(line, where.out, seen)
            lines.append(line)
            progress(number, 0)
    except BadInput as error:
        raise BadInput(f"{source}, question {number}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BadInput(f"{source}, question {number}: this is not {form} ({_told(error)})") from None
    if not lines:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in skipped.items())
        raise BadInput(f"{source} gives no question ({reasons or 'it has no row'}): is it {form}?")
    write_whole(target, lambda beside: beside.write_text("\n".join(lines) + "\n", encoding="utf-8"))
    return Converted(target, len(lines), dict(skipped))


def _told(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _content(source: Path) -> Any:
    """JSON, or a list of JSON lines.

    Raises: BadInput if it is neither.
    """
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {source} ({error}): give a JSON file in UTF-8") from None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise BadInput(f"{source} is neither JSON nor a line of JSON each ({error})") from None
