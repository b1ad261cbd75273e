"""The claims of the paper's abstract, and what the committed results say about each: the report card's contents.

A claim is judged in every model and domain by a rule on intervals and controls. It *holds* if the rule is met in all of
them, *in part* if in some, and not if in none; where nothing was measured it says so. Rules and readings are ours. The
rule of the ablation was fixed before anything was measured, that of acceleration before the model for long sequences
was tested (after pilots on short ones). The others follow the claims' own words ("most", "the same"), and were written
down after the shares and overlaps of `mini-s` and the bridge had been seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from corelib import atlas, embedded
from corelib.experiments import causal
from corelib.experiments.ablation import Ablation
from corelib.experiments.hybrid import Hybrid
from corelib.experiments.plan import is_long, measured
from corelib.ranking import compare
from corelib.tasks import DOMAINS

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


@dataclass(frozen=True)
class Claim:
    """A sentence, of the abstract or of ours, how we read it, and what was found."""

    text: str
    rule: str
    chapter: str  # the notebook that shows it
    kind: str  # of the results that it is judged by, a file a model and domain: corelib/atlas/KIND/MODEL/DOMAIN.json
    findings: tuple[Finding, ...]
    about: tuple[str, ...] = ()  # the models that it speaks of; empty: all

    @property
    def verdict(self) -> str:
        """`holds`, `holds in part`, `does not hold` or `not measured`."""
        held = sum(finding.holds for finding in self.findings)
        if not self.findings:
            return "not measured"
        if held == len(self.findings):
            return "holds"
        return f"holds in part ({held} of {len(self.findings)})" if held else "does not hold"


def claims(models: Iterable[str] | None = None) -> list[Claim]:
    """The abstract's claims, judged from the committed results of the embedded `models` (default: all)."""
    names, long = _names(models), tuple(filter(is_long, embedded.names()))
    cells = {name: {domain: atlas.cell(name, domain) for domain in DOMAINS} for name in names}
    return [
        Claim(
            "Few heads hold most of the retrieval attention (functional sparsity)",
            "the top 5 % of heads hold more than half of all RAM: lower limit above 50 %",
            "03_ranking_heads",
            "cells",
            tuple(_concentrated(name, domain, cell) for name, mine in cells.items() for domain, cell in mine.items()),
        ),
        Claim(
            "They are the same heads in every visual domain",
            "the top 5 % of two domains share more heads than draws from the same layers would: p < 0.05",
            "04_one_set_of_heads",
            "cells",
            tuple(
                _shared(name, pair, *(mine[domain].scores() for domain in pair))
                for name, mine in cells.items()
                for pair in combinations(DOMAINS, 2)
            ),
        ),
        Claim(
            "Ablating the top 5 % of heads by RAM degrades answers strongly, lower-ranked heads matter little",
            "the loss lies beyond 95 % of layer-matched draws, and the next and the lowest 5 % each cost less than "
            f"{100 * SMALL:.0f} % of the way from base to chance (upper limit)",
            "07_causal_ablation",
            "ablations",
            tuple(_causal(*one) for one in _ablated(names)),
        ),
        Claim(
            "Keeping only these heads dense accelerates inference with robust accuracy",
            f"about 4,000 visual tokens, the top 5 % of heads dense, all others a window: less than {100 * KEPT:.0f} "
            "points of accuracy are lost (upper limit), and more with other heads of the same layers dense",
            "09_acceleration",
            "hybrids",
            tuple(
                _kept(name, domain, causal.hybrid(name, domain))
                for name in long
                for domain in causal.results("hybrids", name)
            ),
            about=long,
        ),
    ]


def expectations(models: Iterable[str] | None = None) -> list[Claim]:
    """What we expected of the ablations before they were run, judged like the abstract's claims."""
    ablated = _ablated(_names(models))
    doses = [(one, found) for *one, found in ablated if "ratio" in found.dose]
    return [
        Claim(
            "The top 5 % cost more than other heads of their layers",
            "the loss lies beyond 95 % of layer-matched draws",
            "07_causal_ablation",
            "ablations",
            tuple(_beyond(*one) for one in ablated),
        ),
        Claim(
            "In CoRe order fewer heads do the harm than in layer-matched order",
            "D50 in CoRe order over D50 in layer-matched order: whole interval below 1",
            "07_causal_ablation",
            "ablations",
            tuple(_earlier(*one, found, limit=1.0) for one, found in doses),
        ),
        Claim(
            "In `bridge`, the largest model, a third of the heads or less",
            "the same ratio: upper limit below 1/3",
            "07_causal_ablation",
            "ablations",
            tuple(_earlier(*one, found, limit=1 / 3) for one, found in doses if one[0] == "bridge"),
            about=("bridge",),
        ),
    ]


def _names(models: Iterable[str] | None) -> tuple[str, ...]:
    if models is None:
        models = sorted(measured(), key=lambda name: (name == "bridge", name))
    return tuple(models)


def _ablated(names: Iterable[str]) -> list[tuple[str, str, Ablation]]:
    """Every primary ablation that was measured."""
    return [
        (name, domain, causal.ablation(name, domain))
        for name in names
        for domain in DOMAINS
        if domain in causal.results("ablations", name)
    ]


def _concentrated(model: str, domain: str, cell: atlas.Cell) -> Finding:
    share = cell.summaries["all"]["top_share"]
    effect = _percent(share)
    return Finding(model, (domain,), effect, "evenly spread: 5 %", share["low"] > 0.5)


def _shared(model: str, pair: tuple[str, str], one, two) -> Finding:
    found = compare(one, two, PERCENT)
    top, within = found.top, found.top_within_layers
    effect = f"{len(top.shared)} of {len(one.top(PERCENT))} shared"
    control = f"{within.expected:.1f} within layers, {_likely(within.chance)}"
    return Finding(model, pair, effect, control, within.chance < 0.05)


def _causal(model: str, domain: str, found: Ablation) -> Finding:
    seen, way = _beyond(model, domain, found), found.base["accuracy"] - found.chance
    losses = {name: found.conditions[name]["loss"]["accuracy"] for name in ("next", "lowest")}
    others = "; ".join(f"{name} {_percent(one, way)}" for name, one in losses.items())
    small = all(one["high"] < SMALL * way for one in losses.values())
    return replace(seen, control=f"{seen.control}; {others}", holds=seen.holds and small)


def _beyond(model: str, domain: str, found: Ablation) -> Finding:
    """Is the loss beyond the 95th percentile of the layer-matched losses? The p beside it counts the tested set among
    the draws: where only k sets exist, all are tried, and it cannot fall below 1 / (1 + k)."""
    base, draws = found.base["accuracy"], found.null["layer_matched"]["accuracy"]
    losses, way = base - np.array(draws), base - found.chance
    core, often = found.conditions["core"]["loss"]["accuracy"], found.percentile["layer_matched"]["accuracy"]
    scarce = len(draws) < 1 / (1 - BEYOND) and often <= 1 / (1 + len(draws))
    least = f" (the least that {len(draws)} sets allow)" if scarce else ""
    control = f"layer-matched {round(100 * losses.mean() / way)} %, {_likely(often)}{least}"
    beyond = core["value"] > np.quantile(losses, BEYOND)
    return Finding(model, (domain,), f"{_percent(core, way)} of the way to chance", control, bool(beyond))


def _kept(model: str, domain: str, found: Hybrid) -> Finding:
    at, base = found.doses.index(PERCENT), found.base["accuracy"]
    lost = {end: 100 * value for end, value in found.core[at]["loss"].items()}
    others = 100 * (base - np.mean([curve[at] for curve in found.layer_matched]))
    effect = f"{lost['value']:.1f} points [{lost['low']:.1f}, {lost['high']:.1f}] of {100 * base:.0f} %"
    holds = lost["high"] < 100 * KEPT < others
    return Finding(model, (domain,), effect, f"layer-matched {others:.1f} points", bool(holds))


def _earlier(model: str, domain: str, found: Ablation, limit: float) -> Finding:
    core, matched, ratio = found.dose["d50"]["core"], found.dose["d50"]["layer_matched"], found.dose["ratio"]
    effect = "ratio not reached"
    if ratio["value"] is not None:
        effect = f"ratio {'' if matched['value'] is not None else 'at most '}{ratio['value']:.2f}"
    if ratio["high"] is not None:
        effect += f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    control = f"D50: CoRe order {_dose(core)}, layer-matched {_dose(matched)}"
    return Finding(model, (domain,), effect, control, ratio["high"] is not None and ratio["high"] < limit)


def _dose(found: dict[str, float | None]) -> str:
    return f"above {100 * found['largest']:.0f} %" if found["value"] is None else f"{100 * found['value']:.1f} %"


def _percent(found: dict[str, float], whole: float = 1.0) -> str:
    value, low, high = (round(100 * found[end] / whole) for end in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"


def _likely(chance: float) -> str:
    return f"p = {chance:.3f}" if chance >= 0.0005 else "p < 0.001"
