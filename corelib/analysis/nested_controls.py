"""Layer-matched controls for every dose of one ranking, drawn so that the doses of a draw nest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from corelib.core.errors import BadInput
from corelib.core.heads import Head, HeadSet


@dataclass(frozen=True)
class LayerMatchedDoses:
    """Layer-matched controls for every dose of one ranking, drawn so that a draw's doses nest.

    In each layer one order of the heads is drawn. The control of the first k heads of the ranking takes, in each
    layer, the first heads of that order that are not among those k. So it is a uniform draw at each single dose, and
    from dose to dose a head leaves it only when that head comes to be tested itself.
    """

    order: tuple[Head, ...]
    shuffled: tuple[tuple[int, ...], ...]  # [layer][place] → index of the head

    @classmethod
    def draw(cls, order: Sequence[Head], layers: int, heads: int, seed: int) -> LayerMatchedDoses:
        """One draw for the ranking `order`, best first, of a model of `layers` × `heads` heads.

        Raises: BadInput if a head stands twice in the ranking.
        """
        if len(HeadSet(order).check(layers, heads)) < len(order):
            raise BadInput("a head stands twice in the ranking")
        rng = np.random.default_rng(seed)
        return cls(tuple(order), tuple(tuple(rng.permutation(heads).tolist()) for _ in range(layers)))

    def at(self, count: int) -> HeadSet | None:
        """The control of the first `count` heads; None if a layer has too few others: "no disjoint control".

        Raises:
            BadInput: the ranking has no such number of heads.
        """
        if not 0 <= count <= len(self.order):
            raise BadInput(f"the first {count} of {len(self.order)} heads: give 0 to {len(self.order)}")
        tested = HeadSet(self.order[:count])
        chosen = []
        for layer, mine in tested.by_layer().items():
            free = [index for index in self.shuffled[layer] if index not in mine]
            if len(free) < len(mine):
                return None
            chosen += [(layer, index) for index in free[: len(mine)]]
        return HeadSet(chosen)
