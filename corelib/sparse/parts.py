"""Some heads of a layer, in parts that can run as grouped attention by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from corelib.attention.call import AttentionCall


@dataclass(frozen=True)
class Part:
    """Query heads of a layer that have equally many companions on their key/value heads."""

    heads: list[int]
    kv_heads: list[int]


def grouped_parts(heads: Sequence[int], group: int) -> list[Part]:
    """Heads in parts that can run as grouped attention, `group` query heads sharing a key/value head.

    >>> grouped_parts([0, 1, 3], group=2)
    [Part(heads=[3], kv_heads=[1]), Part(heads=[0, 1], kv_heads=[0])]
    """
    shared: dict[int, list[int]] = {}
    for head in sorted(heads):
        shared.setdefault(head // group, []).append(head)
    sizes = sorted({len(mine) for mine in shared.values()})
    return [
        Part(
            [head for mine in shared.values() if len(mine) == size for head in mine],
            [kv_head for kv_head, mine in shared.items() if len(mine) == size],
        )
        for size in sizes
    ]


def part_arguments(
    part: Part, call: AttentionCall, mask: Tensor | None, remembered: list[int] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """What a part's heads are given: query, key, value and mask; `remembered` are the key/value heads that are left."""
    seen = mask if mask is None or mask.shape[1] == 1 else mask[:, part.heads]
    if len(part.heads) == call.num_heads:
        return call.query, call.key, call.value, seen
    at = part.kv_heads if remembered is None else [remembered.index(one) for one in part.kv_heads]
    return call.query[:, part.heads], call.key[:, at], call.value[:, at], seen
