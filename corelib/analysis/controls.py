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

No control holds a tested head, nor, where `reach` is given, one whose sliding window ends before the evidence. A
ranking is an order of heads, best first, such as `HeadScores.order()`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import comb, prod

import numpy as np

from corelib.core.entries import check_whole
from corelib.core.errors import BadInput, NoControl
from corelib.core.heads import Head, HeadSet, top_count

MOST_DRAWS = 100_000  # sets of a control


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


def random_sets(
    tested: HeadSet, layers: int, heads: int, *, draws: int, seed: int = 0, reach: Sequence[int] | None = None
) -> list[HeadSet]:
    """Sets of as many other heads as `tested` has, drawn blindly from all of them, or from those of the layers that
    reach the evidence (`HeadScores.layers`); a set may come twice.

    Raises:
        BadInput: no head, one that does not exist or one out of reach is tested, fewer others are left, or `draws` is
            below 1.

    >>> [str(one) for one in random_sets(HeadSet("L0H0"), 1, 2, draws=2)]
    ['L0H1', 'L0H1']
    """
    others = other_heads(tested, layers, heads, draws, reach)
    rng = np.random.default_rng(seed)
    _enough(others, len(tested), [*tested, *others])
    return [HeadSet(others[k] for k in rng.choice(len(others), len(tested), replace=False)) for _ in range(draws)]


def layer_matched(tested: HeadSet, layers: int, heads: int, *, draws: int, seed: int = 0) -> list[HeadSet]:
    """Sets that have as many heads in each layer as `tested`, and none of its heads. If there are no more than `draws`
    such sets, all of them, each once; otherwise each set is as likely at each draw.

    Raises:
        BadInput: as `random_sets`.
        NoControl: a layer has too few other heads ("no disjoint control").

    >>> [str(one) for one in layer_matched(HeadSet("L0H0 L1H2"), 2, 3, draws=100)]
    ['L0H1 L1H0', 'L0H1 L1H1', 'L0H2 L1H0', 'L0H2 L1H1']
    """
    others = other_heads(tested, layers, heads, draws)
    free = {layer: [head for head in others if head.layer == layer] for layer in tested.by_layer()}
    counts = {layer: len(mine) for layer, mine in tested.by_layer().items()}
    for layer, count in counts.items():
        if len(free[layer]) < count:
            raise NoControl(
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


def norm_matched(
    tested: HeadSet,
    norms: Sequence[Sequence[float]],
    *,
    draws: int,
    seed: int = 0,
    near: int = 5,
    reach: Sequence[int] | None = None,
) -> list[HeadSet]:
    """Sets of other heads that write about as much: for each tested head, loudest first, one of the `near` free heads
    whose `norms[layer][head]` (of its output, the score `output_norm`) are closest to its own. `reach` is as for
    `random_sets`. Our definition.

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
    others = other_heads(tested, layers, heads, draws, reach)
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


def other_heads(tested: HeadSet, layers: int, heads: int, draws: int, reach: Sequence[int] | None = None) -> list[Head]:
    """All heads of a model but those that are tested, in order: what a control draws from. Of a model with sliding
    windows, all heads of the layers that `reach` the evidence.

    Raises: BadInput if `draws` is not 1 to `MOST_DRAWS`, or if no head is tested or one is not there or out of reach.

    >>> [str(head) for head in other_heads(HeadSet("L1H0"), 3, 2, draws=1, reach=[1])]
    ['L1H1']
    """
    check_whole("draws", draws, 1, MOST_DRAWS)
    if not tested:
        raise BadInput("no head is tested: give at least one")
    others = HeadSet.all(layers, heads) - tested.check(layers, heads)
    if reach is None:
        return list(others)
    if outside := [str(head) for head in tested if head.layer not in reach]:
        raise BadInput(f"{', '.join(outside)}: only layers {list(reach)} reach the evidence; test heads of these")
    return [head for head in others if head.layer in reach]
