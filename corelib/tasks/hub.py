"""`hub:`: public data sets of pictures with known evidence, read through the package `datasets`.

    corelib score --domain hub:refcocog --model Qwen/Qwen3-VL-2B-Instruct --samples 64 --out scores.json

| name | on the hub | what is asked | evidence |
|---|---|---|---|
| `refcocog` | lmms-lab/RefCOCOg | Is there *phrase*? | the object that the phrase names |
| `refcoco-m` | moondream/refcoco-m | the same | the same, with better boxes |
| `mmdocir` | MMDocIR/MMDocIR_Evaluation_Dataset | the set's question | the places on its pages |

Rows have the columns that the sets' own pages describe (read in November 2026; the sets were not at hand). They are
checked when a set is opened, and an error lists what was found. A phrase is asked for by a question that any model can
answer: a box would be written by each family in numbers of its own. Other sets go through a folder (`convert.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any, ClassVar

from PIL import Image

from corelib.core.errors import BadResults, HubUnreachable, MissingPackage, check_known
from corelib.core.geometry import box_from
from corelib.core.pictures import open_picture
from corelib.tasks.items import Item, ItemTask
from corelib.tasks.mmdocir import answer_text, page_window, share_of_page

PREFIX = "hub:"
Row = Mapping[str, Any]  # of a data set, by column: what is in a column, the set decides
MOST = 2000  # records that are read of a set, at most


PAGES = 8  # of a document, shown with a question: those with evidence, and their neighbours


@dataclass(frozen=True)
class Source:
    """A data set of the hub, and how its rows become records."""

    id: str
    split: str
    columns: tuple[str, ...]  # that its rows must have
    records: Callable[[Row], Iterator[Item]]
    licence: str  # as its page states it; read it there before you use a set
    files: Mapping[str, str] | None = None  # of a set in several parts: what is read of it, by name


def shown(value: object) -> Image.Image:
    """A picture, as data sets hold it: decoded, or as the bytes of a file.

    Raises: BadResults if it is neither.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if not isinstance(value, bytes | Image.Image):
        raise BadResults(f"a picture of the set is a {type(value).__name__}: pictures and bytes of files can be read")
    return open_picture(value, name="of the set")


def asked_for(phrase: str) -> str:
    """The question that asks for what a phrase names.

    >>> asked_for("the man on the left.")
    'Is there the man on the left in the picture? Answer yes or no.'
    """
    return f"Is there {phrase.strip().rstrip('.')} in the picture? Answer yes or no."


def _refcocog(row: Row) -> Iterator[Item]:
    image = shown(row["image"])
    box = box_from(list(row["bbox"]), image.size, "xywh")
    for phrase in row["answer"]:
        yield Item((str(row["file_name"]),), asked_for(phrase), "yes", (box,), read=lambda: [image])


def _refcoco_m(row: Row) -> Iterator[Item]:
    image = shown(row["image"])
    for sample in row["samples"]:
        box = box_from(list(sample["bbox"]), image.size, "xywh")
        for phrase in sample["sentences"]:
            yield Item((str(row["file_name"]),), asked_for(phrase), "yes", (box,), read=lambda: [image])


def _mmdocir(row: Row) -> Iterator[Item]:
    """One document with its `pages`, by their numbers, and all its questions."""
    pages: Mapping[int, object] = row["pages"]
    for asked in row["questions"]:
        places = [int(mark["page"]) for mark in asked["layout_mapping"]]
        around = page_window(places, PAGES, min(pages)) if places and set(places) <= pages.keys() else None
        if around is None:
            continue  # without a place, or with places that do not fit into one prompt
        window = [number for number in around if number in pages]
        images = {number: shown(pages[number]) for number in window}
        boxes = tuple(
            box_from(share_of_page(mark), images[place].size, "norm", window.index(place))
            for mark, place in zip(asked["layout_mapping"], places, strict=True)
        )
        names = tuple(f"{row['doc_name']}/{number}" for number in window)
        read: Callable[[], Sequence[Image.Image]] = partial(list, images.values())
        yield Item(names, asked["Q"], answer_text(asked["A"]), boxes, kind=str(asked["type"]), read=read)


SOURCES = {
    "refcocog": Source(
        "lmms-lab/RefCOCOg", "val", ("image", "file_name", "answer", "bbox"), _refcocog,
        "annotations of RefCOCOg on pictures of COCO; see its page",
    ),
    "refcoco-m": Source("moondream/refcoco-m", "validation", ("image", "file_name", "samples"), _refcoco_m, "MIT"),
    "mmdocir": Source(
        "MMDocIR/MMDocIR_Evaluation_Dataset", "train", ("doc_name", "page_indices", "questions"), _mmdocir,
        "Apache-2.0", files={"documents": "MMDocIR_annotations.jsonl", "pages": "MMDocIR_pages.parquet"},
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Hub(ItemTask):
    """Questions of a public data set. `most`: how many rows are read."""

    name: ClassVar[str] = "hub"

    source: str
    most: int = MOST
    revision: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        extra = {key: value for key, value in (("most", self.most), ("revision", self.revision)) if value}
        return {"domain": PREFIX + self.source, "source": self.origin.id, **extra}

    @cached_property
    def origin(self) -> Source:
        return SOURCES[check_known("data set", self.source, SOURCES)]

    def load(self) -> Iterator[Item]:
        rows = iter(islice(self.rows(), self.most))
        first = next(rows, None)
        if first is None:
            raise BadResults(f"{self.origin.id}, split {self.origin.split}: there is no row")
        missing = [name for name in self.origin.columns if name not in first]
        if missing:
            raise BadResults(
                f"{self.origin.id} has no column {', '.join(missing)}; found: {', '.join(sorted(first))}. It has "
                "changed: corelib/tasks/hub.py says how its rows are read"
            )
        for row in (first, *rows):
            yield from self.origin.records(row)

    def rows(self) -> Iterable[Row]:
        """The rows of the set, one after the other, without downloading the whole of it; documents with their pages.

        Raises: MissingPackage without the package `datasets`, HubUnreachable if the set cannot be opened.
        """
        files = self.origin.files
        if files is None:
            return self._open(self.origin.id, split=self.origin.split, revision=self.revision)
        at = f"hf://datasets/{self.origin.id}" + (f"@{self.revision}" if self.revision else "")
        documents = self._open("json", data_files=f"{at}/{files['documents']}", split="train")
        pages = self._open("parquet", data_files=f"{at}/{files['pages']}", split="train")
        return with_pages(documents, pages)

    def _open(self, kind: str, **options: Any) -> Iterable[Row]:
        try:
            from datasets import load_dataset
        except ImportError:
            raise MissingPackage("data sets of the hub need the package datasets: pip install datasets") from None
        try:
            rows: Iterable[Row] = load_dataset(kind, streaming=True, **options)
        except Exception as error:
            raise HubUnreachable(
                f"{self.origin.id} cannot be opened ({type(error).__name__}: {error}): connect, or use pictures of "
                "your own (folder:PATH)"
            ) from None
        return rows


def with_pages(documents: Iterable[Row], pages: Iterable[Row]) -> Iterator[Row]:
    """Documents with their pages by number, where pages are rows of their own in the order of documents, and each
    document names the first of its rows and the one behind the last.

    Raises: BadResults if the rows of a document are of another one.
    """
    place, stream = 0, iter(pages)
    for document in documents:
        if "page_indices" not in document or "doc_name" not in document:
            yield document  # what is missing is said where columns are checked
            return
        first, past = document["page_indices"]
        mine: dict[int, object] = {}
        for row in islice(stream, max(0, first - place), max(0, past - place)):
            if row["doc_name"] != document["doc_name"]:
                raise BadResults(f"a page of {row['doc_name']} stands among those of {document['doc_name']}")
            mine[int(row["passage_id"])] = row["image_binary"]
        place = max(place, past)
        yield {**document, "pages": mine}
