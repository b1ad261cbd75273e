"""What one committed result says of a claim, by the rules of `verdicts.py`: effect, control, verdict.

A result of the first round is not judged by these rules: where there is no other, the finding is "not measured".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from corelib.analysis.division import Division
from corelib.atlas import library, verdicts
from corelib.atlas.plan import study
from corelib.atlas.verdicts import SEED, Judgement, Verdict
from corelib.core.values import Estimate
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.redirection_result import Redirection
from corelib.tasks import DOMAINS

LEAD = "bridge"  # the model with enough heads
SIZES = ("mini-s", "mini-m", "bridge")


@dataclass(frozen=True)
class Finding:
    """One claim in one model and domain."""

    model: str
    domain: str
    effect: str  # with its interval
    control: str
    judgement: Judgement
    estimate: Estimate | None = None  # the effect as a number, where there is one


def not_yet(model: str, domain: str) -> Finding:
    """Nothing was measured."""
    return Finding(model, domain, "", "", Judgement(Verdict.NOT_MEASURED))


def _redirection(model: str, name: str) -> Redirection | None:
    return library.redirection(model, name) if name in library.results("redirections", model) else None


def judge_redirection(found: Redirection) -> Judgement:
    """The first rule, for one result."""
    sets, p = (0, 1.0) if found.null is None else (len(found.null.sets), found.null.p)
    return verdicts.extraction(found.core.moved, p, sets, found.complement.moved)


def find_extraction(model: str, domain: str) -> Finding:
    """The first rule: do answers follow the gaze of the top heads, and of no others?"""
    found = _redirection(model, domain)
    return not_yet(model, domain) if found is None else extraction_of(found, domain)


def extraction_of(found: Redirection, domain: str) -> Finding:
    """What one redirection says of the first claim."""
    return Finding(found.model.name, domain, *_moved(found), judge_redirection(found), found.core.moved)


def _moved(found: Redirection) -> tuple[str, str]:
    null = "no matched set"
    if found.null is not None:
        null = f"matched sets at most {100 * max(found.null.moved):.0f} %, p = {found.null.p:.3f}"
    return f"{found.core.moved.percent()} moved", f"{null}; all others {found.complement.moved.percent()}"


def name_of_kind(model: str, domain: str, kind: str) -> str:
    """What the redirection of one kind of question is called: of a model that is asked for this kind alone, as the
    domain is."""
    return domain if study(model).kind.get(domain) == kind else f"{domain}-{kind}"


def find_kind(model: str, domain: str, kind: str) -> Finding:
    """The first rule for one kind of question, with heads ranked on it alone; not judged where hiding the evidence does
    not hide the answer."""
    cell = library.cell(model, domain)
    if cell.validity is None or f"without/{kind}" not in cell.validity:
        return not_yet(model, f"{domain}: {kind}")
    told = {one: cell.validity[f"{one}/{kind}"].accuracy for one in ("base", "without", "only", "constant")}
    gate = verdicts.valid_evidence(**told)
    seen = f"accuracy {told['base']:.2f}, evidence hidden {told['without']:.2f}, alone {told['only']:.2f}"
    found = _redirection(model, name_of_kind(model, domain, kind))
    if gate.verdict is not Verdict.SUPPORTED or found is None:
        return Finding(model, f"{domain}: {kind}", "", seen, gate if gate.why else Judgement(Verdict.NOT_MEASURED))
    effect, control = _moved(found)
    return Finding(model, f"{domain}: {kind}", effect, f"{seen}; {control}", judge_redirection(found))


def find_sparsity(model: str, domain: str) -> Finding:
    """How few heads hold half of all RAM?"""
    found = library.cell(model, domain).summaries["all"]
    if found.half_share is None:
        return not_yet(model, domain)
    return sparsity_of(model, domain, found.half_share, found.top_share)


def sparsity_of(model: str, domain: str, share: Estimate, top: Estimate) -> Finding:
    """What the share of heads that hold half of all RAM, and that of the top 5 %, say of sparsity."""
    effect, control = f"{share.percent()} of the heads", f"the top 5 % hold {top.percent()}"
    return Finding(model, domain, effect, control, verdicts.sparsity(share), share)


def find_division(model: str, domain: str) -> Finding:
    """Do the top heads spread their attention outside the evidence less than others of their layers?"""
    found = library.cell(model, domain).division
    return not_yet(model, domain) if found is None else division_of(model, domain, found)


def division_of(model: str, domain: str, found: Division) -> Finding:
    """What a comparison of the top heads with those of their layers says."""
    control = f"{found.sets} matched sets, p = {found.p:.3f}"
    return Finding(
        model,
        domain,
        str(found.difference),
        control,
        verdicts.division(found.difference, found.p, found.sets),
        found.difference,
    )


def find_across_domains(model: str) -> Finding:
    """The first rule, for every ranking in every other domain."""
    pairs = [(one, two) for one in DOMAINS for two in DOMAINS if one != two]
    names = [library.name_across(*pair) for pair in pairs]
    found = {name: _redirection(model, name) for name in names}
    there = {name: one for name, one in found.items() if one is not None}
    return not_yet(model, "all pairs") if len(there) < len(found) else across_of(model, there)


def across_of(model: str, there: Mapping[str, Redirection]) -> Finding:
    """What redirections of rankings in other domains say, by pair."""
    moved = [one.core.moved.value for one in there.values()]
    others = [one.complement.moved.value for one in there.values()]
    judged = verdicts.everywhere([judge_redirection(one) for one in there.values()], "pairs of domains")
    effect = f"{100 * min(moved):.0f} to {100 * max(moved):.0f} % moved"
    return Finding(model, "all pairs", effect, f"all others at most {100 * max(others):.0f} %", judged)


def find_across_sizes() -> Finding:
    """The first and the third rule, in every model and domain."""
    parts = [
        judge(model, domain).judgement
        for model in SIZES
        for domain in DOMAINS
        for judge in (find_extraction, find_division)
    ]
    judged = verdicts.everywhere(parts, "rules in models and domains")
    return Finding(LEAD, "all sizes", "", "", judged)


def _second(model: str, domain: str) -> Ablation | None:
    """The primary ablation, if it is of this round."""
    if domain not in library.results("ablations", model):
        return None
    found = library.ablation(model, domain)
    return found if found.task.seed == SEED and found.levels is not None else None


def find_necessity(model: str, domain: str) -> Finding:
    """What is lost without the top heads?"""
    found = _second(model, domain)
    return not_yet(model, domain) if found is None else necessity_of(found, domain)


def necessity_of(found: Ablation, domain: str) -> Finding:
    """What one ablation says of the top heads."""
    drop = found.normalised(found.conditions.core.loss.accuracy)
    sets = len(found.null["kv_matched"].sets) if "kv_matched" in found.null else 0
    p = found.percentile["kv_matched"].accuracy if sets else 1.0
    control = f"{sets} matched sets, p = {p:.3f}" if sets else "no matched set"
    judged = verdicts.necessity(drop, p, sets)
    return Finding(found.model.name, domain, f"{drop.percent()} of the way to chance", control, judged, drop)


def find_lower_ranked(model: str, domain: str) -> Finding:
    """What is lost without those below them?"""
    found = _second(model, domain)
    return not_yet(model, domain) if found is None else lower_ranked_of(found, domain)


def lower_ranked_of(found: Ablation, domain: str) -> Finding:
    """What one ablation says of the heads below them."""
    mean = found.null["random"].loss if "random" in found.null else None
    if mean is None:
        return not_yet(found.model.name, domain)
    following, others = (found.normalised(one) for one in (found.conditions.next.loss.accuracy, mean))
    control = f"random sets of the others {others.percent()}"
    judged = verdicts.lower_ranked(following, others)
    return Finding(found.model.name, domain, f"next 5 % {following.percent()}", control, judged, following)


def find_sufficiency(model: str, domain: str) -> Finding:
    """What do the top heads keep alone?"""
    found = _second(model, domain)
    return not_yet(model, domain) if found is None else sufficiency_of(found, domain)


def sufficiency_of(found: Ablation, domain: str) -> Finding:
    """What one ablation says of the top heads alone."""
    kept = None if found.sufficiency is None else found.sufficiency.kept
    if found.sufficiency is None or kept is None:
        return not_yet(found.model.name, domain)
    whole = found.base.accuracy
    share = Estimate(kept.value / whole, kept.low / whole, kept.high / whole)
    control = f"if no head sees, {100 * found.sufficiency.none / whole:.0f} %"
    return Finding(found.model.name, domain, f"{share.percent()} kept", control, verdicts.sufficiency(share), share)
