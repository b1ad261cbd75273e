"""Layer-matched sets that know about grouped keys: each loses as many heads of a key/value group as the tested set."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import comb, prod

import numpy as np

from corelib.analysis.controls import other_heads
from corelib.core.errors import BadInput, NoControl
from corelib.core.heads import Head, HeadSet


def kv_matched(tested: HeadSet, layers: int, heads: int, kv_heads: int, *, draws: int, seed: int = 0) -> list[HeadSet]:
    """Sets that take from each layer's key/value groups as many heads as `tested` does, whichever group each number
    falls on, and none of its heads. Heads that share a key/value head are alike: two of one group are another loss than
    two of two groups. If there are no more than `draws` such sets, all of them, each once; otherwise each set is as
    likely at each draw. Our definition.

    Args:
        tested: the heads that the sets are compared with.
        layers: of the model.
        heads: query heads of a layer; `heads / kv_heads` neighbours share a key/value head.
        kv_heads: key/value heads of a layer.

    Raises:
        BadInput: as `random_sets`; or `kv_heads` does not divide `heads`.
        NoControl: a layer has no such set.

    >>> [str(one) for one in kv_matched(HeadSet("L0H0 L0H1"), 1, 6, 3, draws=9)]  # a whole group, for a whole group
    ['L0H4 L0H5', 'L0H2 L0H3']
    """
    if kv_heads < 1 or heads % kv_heads:
        raise BadInput(f"{heads} heads on {kv_heads} key/value heads: give a number that divides them")
    others, size = other_heads(tested, layers, heads, draws), heads // kv_heads
    choices = []
    for layer, mine in tested.by_layer().items():
        free = tuple(
            tuple(head for head in others if (head.layer, head.index // size) == (layer, k)) for k in range(kv_heads)
        )
        lost = Counter(index // size for index in mine)
        choices.append(_GroupChoices(free, tuple(sorted(lost[k] for k in range(kv_heads)))))
        if not choices[-1].number:
            raise NoControl(
                f"layer {layer} has no other set that takes as many heads from as many key/value groups: there is no "
                "disjoint control; test fewer heads"
            )
    if prod(one.number for one in choices) <= draws:
        return [HeadSet(itertools.chain(*parts)) for parts in itertools.product(*(one.every() for one in choices))]
    rng = np.random.default_rng(seed)
    return [HeadSet(itertools.chain(*(one.drawn(rng) for one in choices))) for _ in range(draws)]


@dataclass(frozen=True)
class _GroupChoices:
    """All ways to take given numbers of heads from the groups of one layer, a number from each, in any order."""

    free: tuple[tuple[Head, ...], ...]  # of each group
    counts: tuple[int, ...]  # to be taken, one a group, rising

    @property
    def number(self) -> int:
        return _ways(tuple(map(len, self.free)), self.counts)

    def first(self) -> list[tuple[int, int, _GroupChoices]]:
        """Each number that the first group may lose, in how many ways that goes on, and what is left to choose."""
        found = []
        for count in dict.fromkeys(self.counts):
            rest = _GroupChoices(self.free[1:], _without(self.counts, count))
            found.append((count, comb(len(self.free[0]), count) * rest.number, rest))
        return [one for one in found if one[1]]

    def every(self) -> Iterator[tuple[Head, ...]]:
        if not self.free:
            yield ()
            return
        for count, _, rest in self.first():
            for mine, others in itertools.product(itertools.combinations(self.free[0], count), [*rest.every()]):
                yield (*mine, *others)

    def drawn(self, rng: np.random.Generator) -> list[Head]:
        if not self.free:
            return []
        ways = self.first()
        whole = sum(weight for _, weight, _ in ways)
        count, _, rest = ways[int(rng.choice(len(ways), p=[weight / whole for _, weight, _ in ways]))]
        mine = rng.permutation(len(self.free[0]))[:count].tolist()
        return [*(self.free[0][k] for k in mine), *rest.drawn(rng)]


@cache
def _ways(sizes: tuple[int, ...], counts: tuple[int, ...]) -> int:
    """In how many ways `counts`, in any order, can be taken from groups of these `sizes`."""
    if not sizes:
        return 1
    return sum(
        comb(sizes[0], count) * _ways(sizes[1:], _without(counts, count))
        for count in dict.fromkeys(counts)
        if count <= sizes[0]
    )


def _without(counts: tuple[int, ...], count: int) -> tuple[int, ...]:
    at = counts.index(count)
    return counts[:at] + counts[at + 1 :]
