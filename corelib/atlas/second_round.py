"""The report card of the second round: what the committed results say of each claim, by the rules of `verdicts.py`.

    {row.claim: row.verdict.verdict for row in second_round()}

The verdict of a claim is that of `bridge`, if its domains agree; what other models show stands beside it. Acceleration
needs long prompts: its verdict is that of `bridge-long`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from corelib.atlas import findings, verdicts
from corelib.atlas.acceleration_findings import find_acceleration
from corelib.atlas.findings import LEAD, SIZES, Finding
from corelib.atlas.plan import KINDS_APART, measured
from corelib.atlas.trial_cells import LONG_DOMAINS
from corelib.atlas.verdicts import Judgement
from corelib.tasks import DOMAINS

LONG = "bridge-long"  # where acceleration is judged


@dataclass(frozen=True)
class Row:
    """One thing that the abstract says, and what was found."""

    claim: str
    rule: str
    chapter: str  # the notebook that shows it
    findings: tuple[Finding, ...]
    lead: str = LEAD  # the model whose verdict it is

    @property
    def verdict(self) -> Judgement:
        """That of the model that leads, if its domains agree."""
        mine = {one.domain: one.judgement for one in self.findings if one.model == self.lead}
        return verdicts.together(mine)


def second_round(models: Iterable[str] | None = None) -> list[Row]:
    """Every claim, judged in the `models` (default: all that are studied, the one that leads first)."""
    names = _ordered(models)
    return [
        Row(
            "A few heads are dedicated to extraction",
            "moved for the top 5 % of heads, the gaze takes more than half of the answers along; matched sets move as "
            "many in less than 5 % of the draws, and all other heads together fewer than 10 %",
            "08_moving_the_gaze",
            _each(names, findings.find_extraction),
        ),
        Row(
            "The model is functionally sparse",
            "a tenth of the heads or fewer hold half of all RAM",
            "03_ranking_heads",
            _each(names, findings.find_sparsity),
        ),
        Row(
            "Most other heads attend broadly",
            "outside the evidence, too, the top 5 % spread their attention less than other heads of their layers",
            "03_ranking_heads",
            _each(names, findings.find_division),
        ),
        Row(
            "This is seen across visual domains",
            "heads ranked in one domain move the answers of each other domain, by the first rule",
            "08_moving_the_gaze",
            tuple(findings.find_across_domains(name) for name in names),
        ),
        Row(
            "This is seen across model sizes",
            f"the first and the third rule are met in {', '.join(SIZES)}",
            "08_moving_the_gaze",
            (findings.find_across_sizes(),),
        ),
        Row(
            "Ablating the top 5 % breaks the answers",
            "at least half of the way to chance is lost, and more than without matched sets (p < 0.05)",
            "07_causal_ablation",
            _each(names, findings.find_necessity),
        ),
        Row(
            "Lower-ranked heads matter little",
            "without the next 5 %, and on average without random sets of the lower 95 %, less than a tenth of the way "
            "to chance is lost",
            "07_causal_ablation",
            _each(names, findings.find_lower_ranked),
        ),
        Row(
            "These heads suffice",
            "if no other head sees the pictures, nine tenths of the accuracy are kept",
            "07_causal_ablation",
            _each(names, findings.find_sufficiency),
        ),
        Row(
            "Few dense heads save time at little loss",
            "with the top 5 % dense and all other heads short-sighted, at most 2 points are lost (upper limit below "
            "3), matched sets keep as much in less than 5 % of the draws, and prefill is 1.7 times as fast at 4k "
            "tokens and 2.2 times at 7k; short prompts have no speed to gain, and are judged by accuracy alone",
            "10_acceleration",
            (
                *(find_acceleration(LONG, domain) for domain in LONG_DOMAINS),
                *(find_acceleration(LEAD, domain) for domain in DOMAINS if LEAD in names),
            ),
            lead=LONG,
        ),
    ]


def kinds_apart(models: Iterable[str] | None = None) -> list[Finding]:
    """The first rule by kind of question, where the evidence is valid."""
    return [
        findings.find_kind(model, domain, kind)
        for model in _ordered(models)
        for domain, kinds in KINDS_APART.items()
        for kind in kinds
    ]


def _ordered(models: Iterable[str] | None) -> tuple[str, ...]:
    """The `models`, or all that are studied, the one that leads first."""
    return tuple(sorted(measured(), key=lambda name: (name != LEAD, name)) if models is None else models)


Judging = Callable[[str, str], Finding]


def _each(models: Iterable[str], judge: Judging) -> tuple[Finding, ...]:
    return tuple(judge(model, domain) for model in models for domain in DOMAINS)
