"""The variants of RAM by their names, each computed from attention and the same regions of keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from corelib.core.errors import BadInput, check_known
from corelib.metrics.ram import Attention, Rows, contrast, lift, ram, visual_share


@dataclass(frozen=True)
class Regions:
    """The keys that a variant may ask for."""

    evidence: Bool[Tensor, "*lead key"]
    visual: Bool[Tensor, "*lead key"]
    distractors: Bool[Tensor, "*lead region key"] | None = None


def _contrast(attention: Attention, regions: Regions) -> Rows:
    if regions.distractors is None:
        raise BadInput("contrast needs distractor regions: give Regions(…, distractors=[batch, region, key])")
    return contrast(attention, regions.evidence, regions.distractors)


VARIANTS: dict[str, Callable[[Tensor, Regions], Tensor]] = {
    "raw": lambda attention, regions: ram(attention, regions.evidence),
    "visual_share": lambda attention, regions: visual_share(attention, regions.evidence, regions.visual),
    "lift": lambda attention, regions: lift(attention, regions.evidence, regions.visual),
    "contrast": _contrast,
}


def variant(name: str) -> Callable[[Tensor, Regions], Tensor]:
    """A variant of RAM by its name: `variant("lift")(attention, regions)` is [batch, head, row].

    Raises:
        UnknownName: there is no such variant.
    """
    return VARIANTS[check_known("variant of RAM", name, VARIANTS)]
