"""The report card of the second round: what the committed results say of each claim, by the rules of `verdicts.py`.

    for row in second_round():
        print(row.claim, row.verdict.verdict)

The verdict of a claim is that of `bridge`, if its domains agree; what other models show stands beside it. A result of
the first round is not judged by these rules: where there is no other, the row says "not measured".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from corelib.atlas import library, verdicts
from corelib.atlas.plan import measured
from corelib.atlas.verdicts import SEED, Judgement, Verdict
from corelib.core.values import Estimate
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.redirection import Redirection
from corelib.tasks import DOMAINS

LEAD = "bridge"  # the model with enough heads
SIZES = ("mini-s", "mini-m", "bridge")
NOT_YET = Judgement(Verdict.NOT_MEASURED)


@dataclass(frozen=True)
class Finding:
    """One claim in one model and domain."""

    model: str
    domain: str
    effect: str  # with its interval
    control: str
    judgement: Judgement


@dataclass(frozen=True)
class Row:
    """One thing that the abstract says, and what was found."""

    claim: str
    rule: str
    chapter: str  # the notebook that shows it
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Judgement:
        """That of the model that leads, if its domains agree."""
        mine = {one.domain: one.judgement for one in self.findings if one.model == LEAD}
        return verdicts.together(mine)


def second_round(models: Iterable[str] | None = None) -> list[Row]:
    """Every claim, judged in the `models` (default: all that are studied, the one that leads first)."""
    names = tuple(sorted(measured(), key=lambda name: (name != LEAD, name)) if models is None else models)
    return [
        Row(
            "A few heads are dedicated to extraction",
            "moved for the top 5 % of heads, the gaze takes more than half of the answers along; matched sets move as "
            "many in less than 5 % of the draws, and all other heads together fewer than 10 %",
            "08_moving_the_gaze",
            _each(names, _extraction),
        ),
        Row(
            "The model is functionally sparse",
            "a tenth of the heads or fewer hold half of all RAM",
            "03_ranking_heads",
            _each(names, _sparsity),
        ),
        Row(
            "Most other heads attend broadly",
            "outside the evidence, too, the top 5 % spread their attention less than other heads of their layers",
            "03_ranking_heads",
            _each(names, _division),
        ),
        Row(
            "This is seen across visual domains",
            "heads ranked in one domain move the answers of each other domain, by the first rule",
            "08_moving_the_gaze",
            tuple(_across_domains(name) for name in names),
        ),
        Row(
            "This is seen across model sizes",
            f"the first and the third rule are met in {', '.join(SIZES)}",
            "08_moving_the_gaze",
            (_across_sizes(),),
        ),
        Row(
            "Ablating the top 5 % breaks the answers",
            "at least half of the way to chance is lost, and more than without matched sets (p < 0.05)",
            "07_causal_ablation",
            _each(names, _necessity),
        ),
        Row(
            "Lower-ranked heads matter little",
            "without the next 5 %, and on average without random sets of the lower 95 %, less than a tenth of the way "
            "to chance is lost",
            "07_causal_ablation",
            _each(names, _lower_ranked),
        ),
        Row(
            "These heads suffice",
            "if no other head sees the pictures, nine tenths of the accuracy are kept",
            "07_causal_ablation",
            _each(names, _sufficiency),
        ),
    ]


Judging = Callable[[str, str], Finding]


def _each(models: Iterable[str], judge: Judging) -> tuple[Finding, ...]:
    return tuple(judge(model, domain) for model in models for domain in DOMAINS)


def _redirection(model: str, name: str) -> Redirection | None:
    return library.redirection(model, name) if name in library.results("redirections", model) else None


def judge_redirection(found: Redirection) -> Judgement:
    """The first rule, for one result."""
    sets, p = (0, 1.0) if found.null is None else (len(found.null.sets), found.null.p)
    return verdicts.extraction(found.core.moved, p, sets, found.complement.moved)


def _extraction(model: str, domain: str) -> Finding:
    found = _redirection(model, domain)
    if found is None:
        return Finding(model, domain, "", "", NOT_YET)
    return Finding(model, domain, *_moved(found), judge_redirection(found))


def _moved(found: Redirection) -> tuple[str, str]:
    null = "no matched set"
    if found.null is not None:
        null = f"matched sets at most {max(found.null.moved):.0%}, p = {found.null.p:.3f}"
    return f"{found.core.moved.percent()} moved", f"{null}; all others {found.complement.moved.percent()}"


def _sparsity(model: str, domain: str) -> Finding:
    share = library.cell(model, domain).summaries["all"].half_share
    if share is None:
        return Finding(model, domain, "", "", NOT_YET)
    top = library.cell(model, domain).summaries["all"].top_share
    return Finding(
        model, domain, f"{share.percent()} of the heads", f"the top 5 % hold {top.percent()}", verdicts.sparsity(share)
    )


def _division(model: str, domain: str) -> Finding:
    found = library.cell(model, domain).division
    if found is None:
        return Finding(model, domain, "", "", NOT_YET)
    control = f"{found.sets} matched sets, p = {found.p:.3f}"
    return Finding(
        model, domain, str(found.difference), control, verdicts.division(found.difference, found.p, found.sets)
    )


def _across_domains(model: str) -> Finding:
    pairs = [(one, two) for one in DOMAINS for two in DOMAINS if one != two]
    found = {f"{one}-on-{two}": _redirection(model, f"{one}-on-{two}") for one, two in pairs}
    there = {name: one for name, one in found.items() if one is not None}
    if len(there) < len(found):
        return Finding(model, "all pairs", "", "", NOT_YET)
    moved = [one.core.moved.value for one in there.values()]
    others = [one.complement.moved.value for one in there.values()]
    judged = verdicts.everywhere([judge_redirection(one) for one in there.values()], "pairs of domains")
    effect = f"{min(moved):.0%} to {max(moved):.0%} moved"
    return Finding(model, "all pairs", effect, f"all others at most {max(others):.0%}", judged)


def _across_sizes() -> Finding:
    parts = [
        judge(model, domain).judgement for model in SIZES for domain in DOMAINS for judge in (_extraction, _division)
    ]
    judged = verdicts.everywhere(parts, "rules in models and domains")
    return Finding(LEAD, "all sizes", "", "", judged)


def _second(model: str, domain: str) -> Ablation | None:
    """The primary ablation, if it is of this round."""
    if domain not in library.results("ablations", model):
        return None
    found = library.ablation(model, domain)
    return found if found.task.seed == SEED and found.levels is not None else None


def _necessity(model: str, domain: str) -> Finding:
    found = _second(model, domain)
    if found is None:
        return Finding(model, domain, "", "", NOT_YET)
    drop = found.normalised(found.conditions.core.loss.accuracy)
    sets = len(found.null["kv_matched"].sets) if "kv_matched" in found.null else 0
    p = found.percentile["kv_matched"].accuracy if sets else 1.0
    control = f"{sets} matched sets, p = {p:.3f}" if sets else "no matched set"
    return Finding(model, domain, f"{drop.percent()} of the way to chance", control, verdicts.necessity(drop, p, sets))


def _lower_ranked(model: str, domain: str) -> Finding:
    found = _second(model, domain)
    mean = None if found is None or "random" not in found.null else found.null["random"].loss
    if found is None or mean is None:
        return Finding(model, domain, "", "", NOT_YET)
    following, others = (found.normalised(one) for one in (found.conditions.next.loss.accuracy, mean))
    control = f"random sets of the others {others.percent()}"
    return Finding(model, domain, f"next 5 % {following.percent()}", control, verdicts.lower_ranked(following, others))


def _sufficiency(model: str, domain: str) -> Finding:
    found = _second(model, domain)
    kept = None if found is None or found.sufficiency is None else found.sufficiency.kept
    if found is None or kept is None:
        return Finding(model, domain, "", "", NOT_YET)
    whole = found.base.accuracy
    share = Estimate(kept.value / whole, kept.low / whole, kept.high / whole)
    control = f"no head sees {found.sufficiency.none / whole:.0%}" if found.sufficiency is not None else ""
    return Finding(model, domain, f"{share.percent()} kept", control, verdicts.sufficiency(share))
