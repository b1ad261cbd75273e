"""All scores of heads, by name: what each is read from, in which rows, and whose idea it is.

A *quantity* is a number a (head, row), read from one layer as it runs (`QUANTITIES`), or derived from such numbers
(`DERIVED`). A *metric* is a quantity, reduced over query rows: by default those where its source reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from corelib.core.errors import BadInput, check_known
from corelib.core.heads import ROWS
from corelib.metrics import baselines, descriptors
from corelib.metrics.ram import REDUCTIONS, Rows, mass, value_weighted
from corelib.metrics.variants import VARIANTS, Regions, variant


@dataclass(frozen=True)
class LayerReading:
    """What one layer shows in some rows: attention, what is known of the keys, and what its heads wrote."""

    attention: Float[Tensor, "batch head row key"]
    regions: Regions
    positions: Int[Tensor, "batch row"]  # where the rows stand
    real: Bool[Tensor, "batch key"]  # keys that are not padding
    values: Float[Tensor, "batch kv_head key dim"] | None = None
    write: Callable[[Float[Tensor, "batch head row dim"]], Float[Tensor, "batch head row width"]] | None = None
    shown: Bool[Tensor, "batch row key"] | None = None  # keys that show the token which a row should write


T = TypeVar("T")


def _given(part: T | None, name: str) -> T:
    """A part of a reading that only some quantities need."""
    if part is None:
        raise BadInput(f"this quantity needs {name}: give it to LayerReading or Regions")
    return part


def _of_ram(name: str) -> Callable[[LayerReading], Rows]:
    return lambda seen: variant(name)(seen.attention, seen.regions)


QUANTITIES: dict[str, Callable[[LayerReading], Rows]] = {
    **{name: _of_ram(name) for name in VARIANTS},
    "value_weighted": lambda seen: value_weighted(
        seen.attention, _given(seen.values, "values"), _given(seen.write, "write"), seen.regions.evidence
    ),
    "box_hit": lambda seen: baselines.box_hit(seen.attention, seen.regions.evidence),
    "top_k_evidence": lambda seen: baselines.top_k_evidence(seen.attention, seen.regions.evidence),
    "contrastive": lambda seen: baselines.contrastive(
        seen.attention, seen.regions.evidence, _given(seen.regions.distractors, "distractors")
    ),
    "output_norm": lambda seen: baselines.output_norm(seen.attention, _given(seen.values, "values")),
    "visual": lambda seen: mass(seen.attention, seen.regions.visual),
    "entropy": lambda seen: descriptors.entropy(seen.attention, seen.regions.visual),
    "entropy_elsewhere": lambda seen: descriptors.entropy_elsewhere(
        seen.attention, seen.regions.visual, seen.regions.evidence
    ),
    "sink": lambda seen: mass(seen.attention, descriptors.keys_before(seen.regions.visual, seen.real)),
    "locality": lambda seen: descriptors.locality(seen.attention, seen.positions),
}
PARTS: dict[str, Callable[[LayerReading], Rows]] = {  # read only for what is derived from them
    "copy_hit": lambda seen: baselines.copy_hit(seen.attention, seen.regions.evidence, _given(seen.shown, "shown")),
}
DERIVED = ("copy_paste", "null_calibrated", "localization")  # from copy hits; from a null question; from all heads
NEED_DISTRACTORS = ("contrast", "contrastive")  # need distractor regions
DESCRIPTORS = ("visual", "entropy", "entropy_elsewhere", "sink", "locality")


@dataclass(frozen=True)
class Metric:
    """A score of heads."""

    quantity: str
    rows: str = "answer"
    reduce: str = "mean"
    source: str = ""

    def __post_init__(self) -> None:
        check_known("metric", self.quantity, (*QUANTITIES, *DERIVED))
        check_known("query rows", self.rows, ROWS)
        check_known("reduction", self.reduce, REDUCTIONS)

    @property
    def key(self) -> str:
        """Its name in files: `answer/mean/raw`."""
        return f"{self.rows}/{self.reduce}/{self.quantity}"


_RAM, _QR = "arXiv 2606.05843", "QRHead, arXiv 2506.09944"
METRICS: dict[str, Metric] = {
    "RAM": Metric("raw", source=_RAM),
    "RAM, most in the answer": Metric("raw", reduce="max", source=_RAM),
    "RAM, last row": Metric("raw", "last", source=_RAM),
    "RAM, question rows": Metric("raw", "question", source=_RAM),
    "RAM, most in the question": Metric("raw", "question", "max", source=_RAM),
    "visual share": Metric("visual_share", source="ours, after " + _RAM),
    "lift": Metric("lift", source="ours, after " + _RAM),
    "contrast": Metric("contrast", source="ours, after " + _RAM),
    "value-weighted": Metric("value_weighted", source="ours, after " + _RAM),
    "null-calibrated": Metric("null_calibrated", source="ours, after " + _QR),
    "copy-paste": Metric("copy_paste", source="retrieval heads, arXiv 2404.15574"),
    "top-k evidence": Metric("top_k_evidence", source="HeadKV, arXiv 2410.19258"),
    "box hit": Metric("box_hit", source="SparseMM, arXiv 2506.05344"),
    "localization": Metric("localization", "last", source="localization heads, arXiv 2503.06287"),
    "question − null": Metric("null_calibrated", "question", source=_QR),
    "contrastive": Metric("contrastive", source="variant of contrastive retrieval heads, arXiv 2510.02219"),
    "output norm": Metric("output_norm", source="arXiv 2504.03889"),
}
PRIMARY = METRICS["RAM"]  # fixed before anything was measured


def metric(quantity: str = "raw", rows: str | None = None, reduce: str | None = None) -> Metric:
    """A metric by its quantity; rows and reduction are by default those of the catalogue's first with that quantity.

    Raises:
        UnknownName: there is no such quantity, choice of rows, or reduction.
        BadInput: localization in other rows.

    >>> metric("localization").key, metric("lift", rows="question").key
    ('last/mean/localization', 'question/mean/lift')
    """
    known = next((one for one in METRICS.values() if one.quantity == quantity), Metric(quantity))
    found = replace(known, rows=known.rows if rows is None else rows, reduce=known.reduce if reduce is None else reduce)
    if quantity == "localization" and found.key != known.key:
        raise BadInput("localization is read in the last row of the prompt: leave rows and reduction away")
    return found
