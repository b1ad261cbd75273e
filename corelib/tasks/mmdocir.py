"""MMDocIR as its README describes it: questions about long documents, with layouts on their pages in points of a PDF.

What `convert.py` (files) and `hub.py` (rows) both need. A question is a mapping with `Q`, `A`, `type` and
`layout_mapping`, whose marks have `page`, `page_size` and `bbox`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Marks = Sequence[Mapping[str, Any]]


def page_window(places: Sequence[int], most: int, first: int = 0) -> range | None:
    """The numbers of `most` pages around those with evidence, from `first` on at the earliest; None if these lie too
    far apart.

    >>> page_window([4, 5], 4), page_window([0], 4), page_window([0, 9], 4)
    (range(3, 7), range(0, 4), None)
    """
    span = max(places) - min(places) + 1
    if span > most:
        return None
    start = max(first, min(places) - (most - span) // 2)
    return range(start, start + most)


def share_of_page(mark: Mapping[str, Any]) -> list[float]:
    """A layout as x0, y0, x1, y1 between 0 and 1.

    >>> share_of_page({"page_size": [100, 200], "bbox": [10, 20, 50, 210]})
    [0.1, 0.1, 0.5, 1.0]
    """
    width, height = mark["page_size"]
    return [min(max(value / side, 0.0), 1.0) for value, side in zip(mark["bbox"], (width, height) * 2, strict=True)]


def answer_text(given: object) -> str:
    """An answer, or the parts of one, as a text.

    >>> answer_text([5, "7"]), answer_text("here")
    ('5, 7', 'here')
    """
    return ", ".join(map(str, given)) if isinstance(given, list) else str(given)
