"""The claims of the paper's abstract, and what the committed results say about each: the report card's contents.

A claim is judged in every model and domain by a rule on intervals and controls. It *holds* if the rule is met in all of
them, *in part* if in some, and not if in none; where nothing was measured it says so. Rules and readings are ours. The
rule of the ablation was fixed before anything was measured; the others follow the claims' own words ("most", "the
same"), and were written down after the shares and overlaps of `mini-s` and the bridge had been seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from corelib import atlas, embedded
from corelib.experiments import causal
from corelib.experiments.ablation import Ablation
from corelib.ranking import compare
from corelib.tasks import DOMAINS

SMALL = 0.10  # of the way from base to chance: what "matters little" may lose at most
BEYOND = 0.05  # how often a layer-matched draw may do as much harm
PERCENT = 0.05  # of the heads: the CoRe heads


@dataclass(frozen=True)
class Finding:
    """One claim in one model and domain."""

    model: str
    domain: str
    effect: str  # with its interval
    control: str
    holds: bool


@dataclass(frozen=True)
class Claim:
    """A sentence of the abstract, how we read it, and what was found."""

    text: str
    rule: str
    chapter: str  # the notebook that shows it
    findings: tuple[Finding, ...]

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
    """All claims, judged from the committed results of the embedded `models` (default: all)."""
    names = sorted(embedded.names(), key=lambda name: (name == "bridge", name)) if models is None else tuple(models)
    cells = {name: {domain: atlas.cell(name, domain) for domain in DOMAINS} for name in names}
    ablated = [
        (name, domain, causal.ablation(name, domain))
        for name in names
        for domain in DOMAINS
        if domain in causal.results("ablations", name)
    ]
    return [
        Claim(
            "Few heads hold most of the retrieval attention (functional sparsity)",
            "the top 5 % of heads hold more than half of all RAM: lower limit above 50 %",
            "03_ranking_heads",
            tuple(_concentrated(name, domain, cell) for name, mine in cells.items() for domain, cell in mine.items()),
        ),
        Claim(
            "They are the same heads in every visual domain",
            "the top 5 % of two domains share more heads than draws from the same layers would: p < 0.05",
            "04_one_set_of_heads",
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
            tuple(_causal(name, domain, found) for name, domain, found in ablated),
        ),
        Claim(
            "Keeping only these heads dense accelerates inference with robust accuracy",
            "not settled yet",
            "",
            (),
        ),
    ]


def _concentrated(model: str, domain: str, cell: atlas.Cell) -> Finding:
    share = cell.summaries["all"]["top_share"]
    effect = _percent(share)
    return Finding(model, domain, effect, "evenly spread: 5 %", share["low"] > 0.5)


def _shared(model: str, pair: tuple[str, str], one, two) -> Finding:
    found = compare(one, two, PERCENT)
    top, within = found.top, found.top_within_layers
    effect = f"{len(top.shared)} of {len(one.top(PERCENT))} shared"
    control = f"{within.expected:.1f} within layers, {_likely(within.chance)}"
    return Finding(model, " · ".join(pair), effect, control, within.chance < 0.05)


def _causal(model: str, domain: str, found: Ablation) -> Finding:
    often, way = found.percentile["layer_matched"]["accuracy"], found.base["accuracy"] - found.chance
    losses = {name: part["loss"]["accuracy"] for name, part in found.conditions.items()}
    draws = found.null["layer_matched"]["accuracy"]
    mean = found.base["accuracy"] - sum(draws) / len(draws)
    numbers = {name: _percent(one, way) for name, one in losses.items()}
    effect = f"{numbers['core']} of the way to chance"
    others = f"next {numbers['next']}; lowest {numbers['lowest']}"
    control = f"layer-matched {round(100 * mean / way)} %, {_likely(often)}; {others}"
    small = all(losses[name]["high"] < SMALL * way for name in ("next", "lowest"))
    return Finding(model, domain, effect, control, often <= BEYOND and small)


def _percent(found: dict[str, float], whole: float = 1.0) -> str:
    value, low, high = (round(100 * found[end] / whole) for end in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"


def _likely(chance: float) -> str:
    return f"p = {chance:.3f}" if chance >= 0.0005 else "p < 0.001"
