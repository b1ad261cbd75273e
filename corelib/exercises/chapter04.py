"""One set of heads?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corelib import atlas
from corelib.analysis.agreement import compare_heads
from corelib.exercises.verdict import Verdict, compare, not_yet, right

FRACTIONS = (0.05, 0.10, 0.20)
MODELS = ("mini-s", "mini-m", "bridge")


def check_thresholds(shared: object) -> Verdict:
    """Exercise 4.1: heads shared by scenes and documents, by model and fraction: {("bridge", 0.05): 6, …}."""
    expected, reversed_order = {}, {}
    for model in MODELS:
        one, two = (atlas.cell(model, domain).scores() for domain in ("scenes", "documents"))
        for fraction in FRACTIONS:
            expected[model, fraction] = float(len(one.top(fraction) & two.top(fraction)))
            reversed_order[model, fraction] = float(len(one.top(fraction)))
    return compare(shared, expected, 0.1, {"these are the sizes of the sets": reversed_order})


def check_kinds(shared: object) -> Verdict:
    """Exercise 4.2: heads that the top 5 % of attribute and relation questions share, by model."""
    kinds = {
        model: [atlas.cell(model, "scenes").of_kind(kind) for kind in ("attribute", "relation")] for model in MODELS
    }
    expected = {model: float(len(one.top() & two.top())) for model, (one, two) in kinds.items()}
    whole = {
        model: float(len(one.top() & atlas.cell(model, "scenes").scores().top())) for model, (one, _) in kinds.items()
    }
    return compare(shared, expected, 0.1, {"these are shared with all questions together": whole})


def check_expected(by_chance: object) -> Verdict:
    """Exercise 4.3 (bridge): heads that random sets share within layers, scenes and video."""
    one, two = (atlas.cell("bridge", domain).scores() for domain in ("scenes", "video"))
    found = compare_heads(one, two)
    mistakes = {
        "that is chance over all heads": {"heads": found.top.expected},
        "these are shared in fact": {"heads": float(len(found.top.shared))},
    }
    return compare({"heads": by_chance}, {"heads": found.top_within_layers.expected}, 0.02, mistakes)


def check_seeds(answer: object) -> Verdict:
    """Exercise 4.4: do two seeds share more top heads than chance? The number of the nine comparisons with p < 0.05."""
    twins = ("mini-s", "mini-s-seed1", "mini-s-seed2")
    pairs = [(a, b, domain) for a in twins for b in twins if a < b for domain in ("scenes", "documents", "video")]
    found = [
        compare_heads(atlas.cell(a, domain).scores(), atlas.cell(b, domain).scores(), same_model=False)
        for a, b, domain in pairs
    ]
    expected = sum(one.top_within_groups.chance < 0.05 for one in found)
    return right(f"{expected} of {len(found)}") if answer == expected else not_yet("count the p values below 0.05")


def check_by_hand(expected_shared: Callable[[Sequence[int], Sequence[int], int], float]) -> Verdict:
    """Exercise 4.5: heads that two sets share by chance, from how many each has in every layer."""
    one, two, heads = [0, 2, 3, 1], [1, 0, 3, 2], 9
    expected = sum(a * b for a, b in zip(one, two, strict=True)) / heads
    given = expected_shared(one, two, heads)
    if abs(given - expected) < 1e-6:
        return right()
    over_all = sum(one) * sum(two) / (heads * len(one))
    return not_yet("that is chance over all heads" if abs(given - over_all) < 1e-6 else f"it is not {given:.3f}")
