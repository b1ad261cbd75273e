"""The claims of the paper's abstract, and what the committed results say about each: the report card's contents.

A claim is judged in every model and domain by a rule on intervals and controls (`rules.py`). It *holds* if the rule is
met in all of them, *in part* if in some, and not if in none; where nothing was measured it says so. Rules and readings
are ours. The rule of the ablation was fixed before anything was measured, that of acceleration before the model for
long sequences was tested (after pilots on short ones). The others follow the claims' own words ("most", "the same"),
and were written down after the shares and overlaps of `mini-s` and the bridge had been seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from corelib.atlas import library
from corelib.atlas.plan import measured, study
from corelib.atlas.rules import KEPT, SMALL, Finding, beyond, concentrated, earlier, kept, needed, shared
from corelib.core import model_folder
from corelib.experiments.ablation_result import Ablation
from corelib.tasks import DOMAINS


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
    """The abstract's claims, judged from the committed results of the bundled `models` (default: all)."""
    names, long = _names(models), _long()
    cells = {name: {domain: library.cell(name, domain) for domain in DOMAINS} for name in names}
    return [
        Claim(
            "Few heads hold most of the retrieval attention (functional sparsity)",
            "the top 5 % of heads hold more than half of all RAM: lower limit above 50 %",
            "03_ranking_heads",
            "cells",
            tuple(concentrated(name, domain, cell) for name, mine in cells.items() for domain, cell in mine.items()),
        ),
        Claim(
            "They are the same heads in every visual domain",
            "the top 5 % of two domains share more heads than draws from the same layers would: p < 0.05",
            "04_one_set_of_heads",
            "cells",
            tuple(
                shared(name, pair, *(mine[domain].scores() for domain in pair))
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
            tuple(needed(*one) for one in _ablated(names)),
        ),
        Claim(
            "Keeping only these heads dense accelerates inference with robust accuracy",
            f"about 4,000 visual tokens, the top 5 % of heads dense, all others a window: less than {100 * KEPT:.0f} "
            "points of accuracy are lost (upper limit), and more with other heads of the same layers dense",
            "10_acceleration",
            "hybrids",
            tuple(
                kept(name, domain, library.hybrid(name, domain))
                for name in long
                for domain in library.results("hybrids", name)
            ),
            about=long,
        ),
    ]


def expectations(models: Iterable[str] | None = None) -> list[Claim]:
    """What we expected of the ablations before they were run, judged like the abstract's claims."""
    ablated = _ablated(_names(models))
    doses = [one for one in ablated if one[2].dose and one[2].dose.ratio]
    return [
        Claim(
            "The top 5 % cost more than other heads of their layers",
            "the loss lies beyond 95 % of layer-matched draws",
            "07_causal_ablation",
            "ablations",
            tuple(beyond(*one) for one in ablated),
        ),
        Claim(
            "In CoRe order fewer heads do the harm than in layer-matched order",
            "D50 in CoRe order over D50 in layer-matched order: whole interval below 1",
            "07_causal_ablation",
            "ablations",
            tuple(earlier(*one, limit=1.0) for one in doses),
        ),
        Claim(
            "In `bridge`, the largest model, a third of the heads or less",
            "the same ratio: upper limit below 1/3",
            "07_causal_ablation",
            "ablations",
            tuple(earlier(*one, limit=1 / 3) for one in doses if one[0] == "bridge"),
            about=("bridge",),
        ),
    ]


def _long() -> tuple[str, ...]:
    """The models for long sequences that the first round judged."""
    long = (name for name in model_folder.bundled_names() if study(name).long_only)
    return tuple(name for name in long if library.results("hybrids", name))


def _names(models: Iterable[str] | None) -> tuple[str, ...]:
    if models is None:
        models = sorted(measured(), key=lambda name: (name == "bridge", name))
    return tuple(models)


def _ablated(names: Iterable[str]) -> list[tuple[str, str, Ablation]]:
    """Every primary ablation that was measured."""
    return [
        (name, domain, library.ablation(name, domain))
        for name in names
        for domain in DOMAINS
        if domain in library.results("ablations", name)
    ]
