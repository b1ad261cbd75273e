"""The rules of the report card: each looks at one result, and says what was found and whether the rule is met."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from corelib.analysis.agreement import compare_heads
from corelib.analysis.stats import ROUNDING
from corelib.atlas.cell import Cell
from corelib.core.head_scores import HeadScores
from corelib.experiments.ablation_curve import Dose
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.hybrid import Hybrid

SMALL = 0.10  # of the way from base to chance: what "matters little" may lose at most
BEYOND = 0.95  # the quantile of the layer-matched losses that a loss must exceed
KEPT = 0.02  # of accuracy: what hybrid attention may lose
PERCENT = 0.05  # of the heads: the CoRe heads


@dataclass(frozen=True)
class Finding:
    """One claim in one model and domain."""

    model: str
    domains: tuple[str, ...]
    effect: str  # with its interval
    control: str
    holds: bool

    @property
    def domain(self) -> str:
        return " · ".join(self.domains)


def concentrated(model: str, domain: str, cell: Cell) -> Finding:
    """Do the top 5 % hold more than half of all RAM, lower limit?"""
    share = cell.summaries["all"].top_share
    return Finding(model, (domain,), share.percent(), "evenly spread: 5 %", share.low > 0.5)


def shared(model: str, pair: tuple[str, str], one: HeadScores, two: HeadScores) -> Finding:
    """Do two domains share more of their top 5 % than draws from the same layers would?"""
    found = compare_heads(one, two, PERCENT)
    top, within = found.top, found.top_within_layers
    effect = f"{len(top.shared)} of {len(one.top(PERCENT))} shared"
    control = f"{within.expected:.1f} within layers, {_likely(within.chance)}"
    return Finding(model, pair, effect, control, within.chance < 0.05)


def needed(model: str, domain: str, found: Ablation) -> Finding:
    """Beyond layer-matched draws, while the next and the lowest 5 % matter little?"""
    seen, way = beyond(model, domain, found), found.base.accuracy - found.chance
    losses = {name: getattr(found.conditions, name).loss.accuracy for name in ("next", "lowest")}
    others = "; ".join(f"{name} {one.percent(way)}" for name, one in losses.items())
    small = all(one.high < SMALL * way for one in losses.values())
    return replace(seen, control=f"{seen.control}; {others}", holds=seen.holds and small)


def beyond(model: str, domain: str, found: Ablation) -> Finding:
    """Is the loss beyond the 95th percentile of the layer-matched losses (or, where none were drawn, of sets that are
    matched by key/value group, too)? The p beside it counts the tested set among the draws: where only k sets exist,
    all are tried, and it cannot fall below 1 / (1 + k)."""
    name = "layer_matched" if "layer_matched" in found.null else "kv_matched"
    base, draws = found.base.accuracy, found.null[name].accuracy
    losses, way = base - np.array(draws), base - found.chance
    core, often = found.conditions.core.loss.accuracy, found.percentile[name].accuracy
    scarce = len(draws) < 1 / (1 - BEYOND) and often <= 1 / (1 + len(draws))
    least = f" (the least that {len(draws)} sets allow)" if scarce else ""
    matched = "layer-matched" if name == "layer_matched" else "matched by layer and group"
    control = f"{matched} {round(100 * losses.mean() / way)} %, {_likely(often)}{least}"
    more = core.value > np.quantile(losses, BEYOND) + ROUNDING  # equal counts of right answers are no more
    return Finding(model, (domain,), f"{core.percent(way)} of the way to chance", control, bool(more))


def kept(model: str, domain: str, found: Hybrid) -> Finding:
    """With the top 5 % dense, is less than `KEPT` lost, upper limit, and more with others of the same layers?"""
    at, base = found.doses.index(PERCENT), found.base.accuracy
    loss = found.core[at].loss
    accuracies = [value for curve in found.layer_matched if (value := curve[at]) is not None]
    others = 100 * (base - np.mean(accuracies))
    value, low, high = (100 * end for end in (loss.value, loss.low, loss.high))
    effect = f"{value:.1f} points [{low:.1f}, {high:.1f}] of {100 * base:.0f} %"
    return Finding(model, (domain,), effect, f"layer-matched {others:.1f} points", bool(high < 100 * KEPT < others))


def earlier(model: str, domain: str, found: Ablation, limit: float) -> Finding:
    """Is D50 in CoRe order so much smaller than in layer-matched order: the upper limit of the ratio below `limit`?"""
    if found.dose is None or found.dose.d50.layer_matched is None or found.dose.ratio is None:
        return Finding(model, (domain,), "no dose curve", "no layer-matched order", False)
    core, matched, ratio = found.dose.d50.core, found.dose.d50.layer_matched, found.dose.ratio
    effect = "ratio not reached"
    if ratio.value is not None:
        effect = f"ratio {'' if matched.value is not None else 'at most '}{ratio.value:.2f}"
    if ratio.low is not None and ratio.high is not None:
        effect += f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    control = f"D50: CoRe order {_dose(core)}, layer-matched {_dose(matched)}"
    return Finding(model, (domain,), effect, control, ratio.high is not None and ratio.high < limit)


def _dose(found: Dose) -> str:
    return f"above {100 * found.largest:.0f} %" if found.value is None else f"{100 * found.value:.1f} %"


def _likely(chance: float) -> str:
    return f"p = {chance:.3f}" if chance >= 0.0005 else "p < 0.001"
