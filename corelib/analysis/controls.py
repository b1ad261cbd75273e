"""Sets of heads to compare a tested set with: what would happen if *other* heads were removed?

That an ablation hurts proves little. Heads of some layers matter more than others, whatever they look at; a large set
hurts more than a small one, loud heads more than quiet ones. Each control takes one such explanation away:

    lowest           the heads at the other end of the ranking
    next_ranked      the heads that just missed the cut
    band             any stretch of the ranking
    random_sets      as many other heads, drawn blindly
    layer_matched    as many other heads *in each layer*, drawn blindly: the control that counts
    kv_matched       the same, and as clumped: as many other heads in as many key/value groups of each layer
    norm_matched     other heads that write about as much into the residual stream

No control holds a tested head. A ranking is an order of heads, best first, such as `HeadScores.order()`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb, prod

import numpy as np

from corelib.core.errors import BadInput
from corelib.core.heads import Head, HeadSet, top_count


def band(order: Sequence[Head], start: float, stop: float) -> HeadSet:
    """The heads whose place in a ranking lies between two fractions of all heads. Bands that touch share no head.

    Raises:
        BadInput: the fractions do not rise within [0, 1], or no head lies between them.

    >>> str(band([Head(0, 1), Head(1, 0), Head(0, 0), Head(1, 1)], 0.25, 0.75))
    'L0H0 L1H0'
    """
    if not 0 <= start < stop <= 1:
        raise BadInput(f"a band from {start} to {stop}: give two fractions of the heads, 0 <= start < stop <= 1")
    first = top_count(start, len(order)) if start else 0
    heads = order[first : top_count(stop, len(order))]
    if not heads:
        raise BadInput(f"a band from {start} to {stop}: no head of {len(order)} lies there, make it wider")
    return HeadSet(heads)


def next_ranked(order: Sequence[Head], fraction: float = 0.05) -> HeadSet:
    """As many heads as the top `fraction` has, from those that just missed the cut.

    Raises:
        BadInput: fewer are left than are wanted.

    >>> str(next_ranked([Head(0, 1), Head(1, 0), Head(0, 0), Head(1, 1)], 0.25))
    'L1H0'
    """
    count = top_count(fraction, len(order))
    return _enough(order[count : 2 * count], count, order)


def lowest(order: Sequence[Head], fraction: float = 0.05) -> HeadSet:
    """As many heads as the top `fraction` has, from the other end of the ranking.

    Raises:
        BadInput: fewer are left than are wanted.

    >>> str(lowest([Head(0, 1), Head(1, 0), Head(0, 0), Head(1, 1)], 0.25))
    'L1H1'
    """
    count = top_count(fraction, len(order))
    return _enough(order[max(count, len(order) - count) :], count, order)


def _enough(heads: Sequence[Head], count: int, order: Sequence[Head]) -> HeadSet:
    if len(heads) < count:
        raise BadInput(f"{count} of {len(order)} heads are tested: there are not as many others")
    return HeadSet(heads)


def random_sets(tested: HeadSet, layers: int, heads: int, *, draws: int, seed: int = 0) -> list[HeadSet]:
    """Sets of as many other heads as `tested` has, drawn blindly from all of them; a set may come twice.

    Raises:
        BadInput: no head or a head that does not exist is tested, fewer others are left, or `draws` is below 1.

    >>> [str(one) for one in random_sets(HeadSet("L0H0"), 1, 2, draws=2)]
    ['L0H1', 'L0H1']
    """
    others = _others(tested, layers, heads, draws)
    rng = np.random.default_rng(seed)
    _enough(others, len(tested), [*tested, *others])
    return [HeadSet(others[k] for k in rng.choice(len(others), len(tested), replace=False)) for _ in range(draws)]


def layer_matched(tested: HeadSet, layers: int, heads: int, *, draws: int, seed: int = 0) -> list[HeadSet]:
    """Sets that have as many heads in each layer as `tested`, and none of its heads. If there are no more than `draws`
    such sets, all of them, each once; otherwise each set is as likely at each draw.

    Raises:
        BadInput: as `random_sets`; or a layer has too few other heads ("no disjoint control").

    >>> [str(one) for one in layer_matched(HeadSet("L0H0 L1H2"), 2, 3, draws=100)]
    ['L0H1 L1H0', 'L0H1 L1H1', 'L0H2 L1H0', 'L0H2 L1H1']
    """
    others = _others(tested, layers, heads, draws)
    free = {layer: [head for head in others if head.layer == layer] for layer in tested.by_layer()}
    counts = {layer: len(mine) for layer, mine in tested.by_layer().items()}
    for layer, count in counts.items():
        if len(free[layer]) < count:
            raise BadInput(
                f"{count} of the {heads} heads of layer {layer} are tested: no {count} others are left there, so "
                "there is no disjoint control; test fewer heads"
            )
    if prod(comb(len(free[layer]), count) for layer, count in counts.items()) <= draws:
        every = [itertools.combinations(free[layer], count) for layer, count in counts.items()]
        return [HeadSet(itertools.chain(*parts)) for parts in itertools.product(*every)]
    rng = np.random.default_rng(seed)
    return [
        HeadSet(
            free[layer][k]
            for layer, count in counts.items()
            for k in rng.choice(len(free[layer]), count, replace=False)
        )
        for _ in range(draws)
    ]


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
        BadInput: as `random_sets`; `kv_heads` does not divide `heads`; or a layer has no such set.

    >>> [str(one) for one in kv_matched(HeadSet("L0H0 L0H1"), 1, 6, 3, draws=9)]  # a whole group, for a whole group
    ['L0H4 L0H5', 'L0H2 L0H3']
    """
    if kv_heads < 1 or heads % kv_heads:
        raise BadInput(f"{heads} heads on {kv_heads} key/value heads: give a number that divides them")
    others, size = _others(tested, layers, heads, draws), heads // kv_heads
    choices = []
    for layer, mine in tested.by_layer().items():
        free = tuple(
            tuple(head for head in others if (head.layer, head.index // size) == (layer, k)) for k in range(kv_heads)
        )
        lost = Counter(index // size for index in mine)
        choices.append(_GroupChoices(free, tuple(sorted(lost[k] for k in range(kv_heads)))))
        if not choices[-1].number:
            raise BadInput(
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
        """One draw for the ranking `order`, best first, of a model of `layers` × `heads` heads."""
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


def norm_matched(
    tested: HeadSet, norms: Sequence[Sequence[float]], *, draws: int, seed: int = 0, near: int = 5
) -> list[HeadSet]:
    """Sets of other heads that write about as much: for each tested head, loudest first, one of the `near` free heads
    whose `norms[layer][head]` (of its output, the score `output_norm`) are closest to its own. Our definition.

    Raises:
        BadInput: as `random_sets`; `norms` is no finite table [layer][head]; or `near` is below 1.

    >>> norm_matched(HeadSet("L0H0"), [[1.0, 1.1], [5.0, 9.0]], draws=1, near=1)[0].to_json()
    ['L0H1']
    """
    table = np.asarray(norms, dtype=float)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise BadInput(f"norms have shape {table.shape}: give a finite table [layer][head]")
    if near < 1:
        raise BadInput(f"near={near}: choose among one head or more")
    layers, heads = table.shape
    others = _others(tested, layers, heads, draws)
    _enough(others, len(tested), [*tested, *others])
    loudness = np.array([table[head.layer, head.index] for head in others])
    wanted = sorted((table[head.layer, head.index] for head in tested), reverse=True)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        free, chosen = np.ones(len(others), dtype=bool), []
        for norm in wanted:
            closest = np.argsort(np.where(free, np.abs(loudness - norm), np.inf), kind="stable")
            pick = int(rng.choice(closest[: min(near, int(free.sum()))]))
            free[pick] = False
            chosen.append(others[pick])
        found.append(HeadSet(chosen))
    return found


def _others(tested: HeadSet, layers: int, heads: int, draws: int) -> list[Head]:
    if draws < 1:
        raise BadInput(f"draws={draws}: a control needs one draw or more")
    if not tested:
        raise BadInput("no head is tested: give at least one")
    return list(HeadSet.all(layers, heads) - tested.check(layers, heads))
