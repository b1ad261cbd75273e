"""Which score predicts?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata, spearmanr

from corelib import atlas
from corelib.exercises.verdict import Verdict, compare, not_yet, right
from corelib.metrics import METRICS

MODELS = ("bridge", "mini-m", "mini-s", "mini-s-seed1", "mini-s-seed2")
PAIRS = tuple((model, domain) for model in MODELS for domain in ("scenes", "documents", "video"))
DOSES = (0.02, 0.05, 0.10, 0.20)


def check_winners(winners: object) -> Verdict:
    """Exercise 9.1: the score with the largest joint loss, by fraction, on `validate`."""
    found = [atlas.effects(model, f"{domain}-validate") for model, domain in PAIRS]
    shared = [name for name, one in METRICS.items() if all(one.key in each.joint for each in found)]
    expected = {}
    for dose in DOSES:
        shares = dict.fromkeys(shared, 0.0)
        for each in found:
            at = each.doses.index(dose)
            most = max(part.logprob.value[at] for part in each.joint.values())
            for name in shared:
                shares[name] += each.joint[METRICS[name].key].logprob.value[at] / most
        expected[dose] = max(shares, key=lambda name: shares[name])
    if not isinstance(winners, dict) or set(winners) != set(DOSES):
        return not_yet(f"give the name of a score for each of {DOSES}")
    wrong = [dose for dose in DOSES if winners[dose] != expected[dose]]
    return (
        not_yet(f"at {wrong[0]:.0%} another score wins")
        if wrong
        else right(", ".join(dict.fromkeys(expected.values())))
    )


def check_lookers(correlation: object) -> Verdict:
    """Exercise 9.2: RAM against the effect within random subsets, `mini-s`, scenes, among the half of the heads that
    attends to the picture most."""
    cell = atlas.cell("mini-s", "scenes")
    visual, ram = (np.ravel(cell.scores(key)) for key in ("answer/mean/visual", "answer/mean/raw"))
    effect = np.ravel(atlas.effects("mini-s", "scenes-test").company.value)
    some = visual > np.median(visual)
    expected = {"rho": float(spearmanr(ram[some], effect[some]).statistic)}
    mistakes = {
        "these are all heads": {"rho": float(spearmanr(ram, effect).statistic)},
        "these are the heads that attend to it least": {"rho": float(spearmanr(ram[~some], effect[~some]).statistic)},
    }
    return compare({"rho": correlation}, expected, 0.005, mistakes)


def check_spearman(rank_correlation: Callable[[np.ndarray, np.ndarray], float]) -> Verdict:
    """Exercise 9.3: Spearman's correlation by hand."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=12)
    two = np.exp(one) + rng.normal(size=12)
    given = rank_correlation(one, two)
    if abs(given - np.corrcoef(rankdata(one), rankdata(two))[0, 1]) < 1e-6:
        return right()
    return not_yet(
        "this is Pearson's, of the values"
        if abs(given - np.corrcoef(one, two)[0, 1]) < 1e-6
        else "it is another number"
    )


def check_fooled(scores: object) -> Verdict:
    """Exercise 9.4: which scores drop every decoy in `bridge`?"""
    found = atlas.decoys("bridge", "scenes")
    expected = {name for name in found.before if found.before[name] > 0.1 and found.kept[name] == 0}
    given = set(scores) if isinstance(scores, (list, tuple, set)) else {scores}
    if given == expected:
        return right(", ".join(sorted(expected)))
    return not_yet(
        "these keep some of their decoys" if given & (set(found.before) - expected) else "look at what is kept"
    )


def check_subsets(effect: Callable[[np.ndarray, np.ndarray], float]) -> Verdict:
    """Exercise 9.5: the effect of a head within random subsets."""
    lost, holds = np.array([0.5, 0.1, 0.7, 0.0]), np.array([True, False, True, False])
    given = effect(lost, holds)
    if abs(given - 0.55) < 1e-6:
        return right()
    if abs(given - 0.6) < 1e-6:
        return not_yet("take off what is lost without it: the mean of the other sets")
    return not_yet("turn it round" if abs(given + 0.55) < 1e-6 else f"it is not {given:.3f}")
