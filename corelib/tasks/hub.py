"""`hub:`: public data sets of pictures with known evidence, read through the package `datasets`.

    corelib score --domain hub:refcocog --model Qwen/Qwen3-VL-2B-Instruct --samples 64 --out scores.json

| name | on the hub | evidence | a written answer is right if |
|---|---|---|---|
| `refcocog` | lmms-lab/RefCOCOg | the object that a phrase names | boxes overlap by half |
| `refcoco-m` | moondream/refcoco-m | the same, with better masks | boxes overlap by half |
| `mmdocir` | MMDocIR/MMDocIR_Evaluation_Dataset | the page, and the place on it | it is the same text |
| `mmlongbench-doc` | yubo2333/MMLongBench-Doc | the pages | it is the same text |
| `hc-stvg` | k-nick/HC-STVG | the person that a sentence describes, frame by frame | boxes overlap by half |

Which columns a set has is checked when it is opened, and an error lists what was found. What stands here was written
from the sets' public descriptions, without the sets at hand: **unverified**, until a set has been opened once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

from PIL import Image

from corelib.core.errors import BadResults, HubUnreachable, MissingPackage, check_known
from corelib.core.geometry import Box
from corelib.core.pictures import open_picture
from corelib.tasks.items import Item, ItemTask

PREFIX = "hub:"
Row = Mapping[str, Any]  # of a data set, by column: what is in a column, the set decides
MOST = 2000  # records that are read of a set, at most


@dataclass(frozen=True)
class Source:
    """A data set of the hub, and how its rows become records."""

    id: str
    split: str
    columns: tuple[str, ...]  # that its rows must have
    records: Callable[[Row], Iterator[Item]]
    rule: str  # of `scoring.py`
    licence: str  # as its page states it; read it there before you use a set
    config: str | None = None


def shown(value: object) -> Image.Image:
    """A picture, as data sets hold it: decoded, or as the bytes of a file.

    Raises: BadResults if it is neither.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if not isinstance(value, bytes | Image.Image):
        raise BadResults(f"a picture of the set is a {type(value).__name__}: pictures and bytes of files can be read")
    return open_picture(value, name="of the set")


def _corners(box: Sequence[float], image: int = 0) -> Box:
    """COCO's (x, y, width, height)."""
    x, y, width, height = (float(one) for one in box)
    return Box(x, y, x + width, y + height, image=image)


def _edges(box: Sequence[float], image: int) -> Box:
    """(x0, y0, x1, y1)."""
    x0, y0, x1, y1 = (float(one) for one in box)
    return Box(x0, y0, x1, y1, image=image)


def _written(box: Box) -> str:
    return f"[{box.x0:.0f}, {box.y0:.0f}, {box.x1:.0f}, {box.y1:.0f}]"


def _located(phrase: str) -> str:
    return f"Where is {phrase.strip().rstrip('.')}? Answer with its box in pixels as [x0, y0, x1, y1]."


def _refcocog(row: Row) -> Iterator[Item]:
    box, read = _corners(row["bbox"]), lambda: [shown(row["image"])]
    for phrase in row["answer"]:
        yield Item((str(row["file_name"]),), _located(phrase), _written(box), (box,), read=read)


def _refcoco_m(row: Row) -> Iterator[Item]:
    name, read = str(row["image_id"]), lambda: [shown(row["image"])]
    for sample in row["samples"]:
        box = _corners(sample["bbox"])
        for phrase in sample["sentences"]:
            yield Item((name,), _located(phrase), _written(box), (box,), read=read)


def _mmdocir(row: Row) -> Iterator[Item]:
    pages = [shown(page) for page in row["page_images"]]
    boxes = tuple(_edges(mark["bbox"], int(mark["page"])) for mark in row["layout_mapping"])
    names = tuple(f"{row['doc_name']}/{number}" for number in range(len(pages)))
    yield Item(names, row["Q"], str(row["A"]), boxes, kind=str(row["type"]), read=lambda: pages)


def _mmlongbench(row: Row) -> Iterator[Item]:
    pages = [shown(page) for page in row["images"]]
    boxes = tuple(
        Box(0, 0, pages[number - 1].width, pages[number - 1].height, image=number - 1)
        for number in row["evidence_pages"]
        if number <= len(pages)
    )
    names, kind = tuple(f"{row['doc_id']}/{number}" for number in range(len(pages))), str(row["answer_format"])
    if boxes:  # some questions have no answer in the document
        yield Item(names, row["question"], str(row["answer"]), boxes, kind=kind, read=lambda: pages)


def _hc_stvg(row: Row) -> Iterator[Item]:
    frames = [shown(frame) for frame in row["frames"]]
    boxes = tuple(_corners(box, image) for image, box in enumerate(row["bbox"]) if box)
    names = tuple(f"{row['video_id']}/{number}" for number in range(len(frames)))
    if boxes:
        yield Item(names, _located(row["caption"]), _written(boxes[0]), boxes, read=lambda: frames)


SOURCES = {
    "refcocog": Source(
        "lmms-lab/RefCOCOg", "val", ("image", "file_name", "answer", "bbox"), _refcocog, "box",
        "annotations of RefCOCOg on pictures of COCO; see its page",
    ),
    "refcoco-m": Source(
        "moondream/refcoco-m", "validation", ("image", "image_id", "samples"), _refcoco_m, "box", "MIT"
    ),
    "mmdocir": Source(
        "MMDocIR/MMDocIR_Evaluation_Dataset", "test", ("doc_name", "page_images", "Q", "A", "type", "layout_mapping"),
        _mmdocir, "exact", "Apache-2.0",
    ),
    "mmlongbench-doc": Source(
        "yubo2333/MMLongBench-Doc", "train",
        ("doc_id", "images", "question", "answer", "evidence_pages", "answer_format"), _mmlongbench, "exact",
        "see its page",
    ),
    "hc-stvg": Source(
        "k-nick/HC-STVG", "test", ("video_id", "frames", "caption", "bbox"), _hc_stvg, "box", "see its page"
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

    @property
    def rule(self) -> str:
        return self.origin.rule

    def load(self) -> Iterator[Item]:
        rows = iter(islice(self.rows(), self.most))
        first = next(rows, None)
        if first is None:
            raise BadResults(f"{self.origin.id}, split {self.origin.split}: there is no row")
        missing = [name for name in self.origin.columns if name not in first]
        if missing:
            raise BadResults(
                f"{self.origin.id} has no column {', '.join(missing)}; found: {', '.join(sorted(first))}. It has "
                "changed, or was described wrongly: corelib/tasks/hub.py says how its rows are read"
            )
        for row in (first, *rows):
            yield from self.origin.records(row)

    def rows(self) -> Iterable[Row]:
        """The rows of the set, one after the other, without downloading the whole of it.

        Raises: MissingPackage without the package `datasets`, HubUnreachable if the set cannot be opened.
        """
        origin = self.origin
        try:
            from datasets import load_dataset
        except ImportError:
            raise MissingPackage("data sets of the hub need the package datasets: pip install datasets") from None
        try:
            rows: Iterable[Row] = load_dataset(
                origin.id, origin.config, split=origin.split, revision=self.revision, streaming=True
            )
        except Exception as error:
            raise HubUnreachable(
                f"{origin.id} cannot be opened ({type(error).__name__}: {error}): connect, or use pictures of your "
                "own (folder:PATH)"
            ) from None
        return rows
