"""The rules of the second round, one for each thing that the paper's abstract says, written before its data were drawn.

Each looks at estimates with their intervals and at a control, and gives one of three verdicts:

    supported       the rule is met
    contradicted    the interval lies on the other side of the rule's limit
    undecided       neither; or the control cannot reach α, because too few sets exist

There is one α. Heads are ranked on the split `select` with seed 0, and tested on `test` with a seed that no result and
no chapter had drawn before. The page "Rules of the second round" says the same in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from corelib.core.errors import BadInput, check_known
from corelib.core.values import Estimate

ALPHA = 0.05
SEED = 20  # of the split test; the first round drew 0, and its chapters 1 and 7
CONFIRMING = 21  # of the split test: for what was chosen on validate
TRIAL = 23  # of the split test: for acceleration
LOCATING = 24  # of the split test: for heads read as a pointer
FEWEST = 20  # sets of a null, 1 / (1 + FEWEST) < α
MOST = 0.5  # of the answers: what the top heads must move
LITTLE = 0.10  # of the answers, what all other heads may move; of the way to chance, what lower-ranked heads may cost
FEW_HEADS, MANY_HEADS = 0.10, 0.25  # that hold half of the mass: a tenth is sparse; evenly spread, it would be a half
STRONGLY = 0.5  # of the way to chance: what the top heads must cost
ENOUGH = 0.90  # of the accuracy: what the top heads alone must keep
LOST, LOST_AT_MOST = 0.02, 0.03  # of the answers: what few dense heads may cost, and its upper limit
FASTER = {"4k": 1.7, "7k": 2.2}  # tokens: how many times as fast prefill must be
VALID = 0.75  # of the way from the best constant answer to base: taken by hiding the evidence, kept by it alone


class Verdict(StrEnum):
    """What the data say of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Judgement:
    """A verdict, and why it is no other."""

    verdict: Verdict
    why: str = ""


def above(effect: Estimate, limit: float) -> Verdict:
    """Is it more than the limit? By its interval.

    >>> above(Estimate(0.7, 0.6, 0.8), 0.5), above(Estimate(0.5, 0.4, 0.6), 0.5).value
    (<Verdict.SUPPORTED: 'supported'>, 'undecided')
    """
    if effect.low > limit:
        return Verdict.SUPPORTED
    return Verdict.CONTRADICTED if effect.high < limit else Verdict.UNDECIDED


def below(effect: Estimate, limit: float) -> Verdict:
    """Is it less than the limit? By its interval."""
    if effect.high < limit:
        return Verdict.SUPPORTED
    return Verdict.CONTRADICTED if effect.low > limit else Verdict.UNDECIDED


def beyond_null(p: float, sets: int) -> Judgement:
    """Does the tested set do more than its controls, p < α? Where fewer than `FEWEST` controls exist, p cannot say.

    Raises: BadInput if p is no share, or if there are fewer than no sets.

    >>> beyond_null(0.1, sets=9)
    Judgement(verdict=<Verdict.UNDECIDED: 'undecided'>, why='9 control sets exist: the least p is 0.100')
    """
    if not 0 < p <= 1 or sets < 0:
        raise BadInput(f"p = {p} of {sets} sets: give a p in (0, 1], and how many sets there are")
    if sets < FEWEST:
        least = f": the least p is {1 / (1 + sets):.3f}" if sets else ""
        return Judgement(Verdict.UNDECIDED, f"{sets or 'no'} control sets exist{least}")
    if p < ALPHA:
        return Judgement(Verdict.SUPPORTED)
    return Judgement(Verdict.CONTRADICTED, f"p = {p:.3f} against its controls")


def all_of(parts: Mapping[str, Verdict | Judgement]) -> Judgement:
    """Several conditions that must all be met: contradicted if one is, supported if all are.

    >>> all_of({"a": Verdict.SUPPORTED, "b": Verdict.UNDECIDED}).why
    'b: undecided'
    """
    whole = {name: one if isinstance(one, Judgement) else Judgement(one) for name, one in parts.items()}
    for verdict in (Verdict.NOT_MEASURED, Verdict.CONTRADICTED, Verdict.UNDECIDED):
        found = {name: one for name, one in whole.items() if one.verdict is verdict}
        if found:
            return Judgement(verdict, "; ".join(f"{name}: {one.why or verdict}" for name, one in found.items()))
    return Judgement(Verdict.SUPPORTED)


def valid_evidence(base: float, without: float, only: float, constant: float) -> Judgement:
    """Is the evidence what is read? Accuracies of the plain model, with the evidence hidden from all heads, with the
    evidence alone, and of the best constant answer. Results of a kind of question that does not pass are not judged.

    Raises: BadInput if the model is no better than a constant answer.

    >>> valid_evidence(base=1.0, without=0.67, only=1.0, constant=0.2).why
    '59 % are kept without the evidence'
    """
    way = base - constant
    if way <= 0:
        raise BadInput(
            f"accuracy {base} is no better than the best constant answer, {constant}: nothing is read at all"
        )
    left, kept = (without - constant) / way, (only - constant) / way
    if left > 1 - VALID:
        return Judgement(Verdict.NOT_MEASURED, f"{left:.0%} are kept without the evidence".replace("%", " %"))
    if kept < VALID:
        return Judgement(Verdict.NOT_MEASURED, f"{kept:.0%} are kept with the evidence alone".replace("%", " %"))
    return Judgement(Verdict.SUPPORTED)


def extraction(moved: Estimate, p: float, sets: int, complement: Estimate) -> Judgement:
    """Dedicated extraction: with the gaze of the top 5 % moved, most answers move, and matched sets do not; moved for
    all other heads together, hardly any do."""
    return all_of(
        {
            "moved by the top 5 %": above(moved, MOST),
            "against matched sets": beyond_null(p, sets),
            "moved by all others": below(complement, LITTLE),
        }
    )


def sparsity(half: Estimate) -> Judgement:
    """Sparsity: a tenth of the heads, or fewer, hold half of the retrieval attention; if it takes a quarter, that is
    contradicted. (Evenly spread it would be half of the heads.)"""
    verdict = below(half, FEW_HEADS)
    if verdict is Verdict.CONTRADICTED and half.low <= MANY_HEADS:
        return Judgement(Verdict.UNDECIDED, f"between {FEW_HEADS:.0%} and {MANY_HEADS:.0%} of the heads")
    return Judgement(verdict)


def division(difference: Estimate, p: float, sets: int) -> Judgement:
    """Division of labour: outside the evidence, too, the top heads spread their attention less than the other heads of
    their layers; `difference` is their relative entropy (0: one token, 1: all alike) minus that of the others."""
    return all_of(
        {"entropy outside the evidence": below(difference, 0.0), "against matched sets": beyond_null(p, sets)}
    )


def necessity(drop: Estimate, p: float, sets: int) -> Judgement:
    """Necessity: without the top 5 % at least half of the way to chance is lost, and more than without matched sets."""
    return all_of({"lost without the top 5 %": above(drop, STRONGLY), "against matched sets": beyond_null(p, sets)})


def lower_ranked(following: Estimate, others: Estimate) -> Judgement:
    """Lower-ranked heads: without the next 5 %, and on average without 100 random sets of the lower 95 %, less than a
    tenth of the way to chance is lost."""
    return all_of({"the next 5 %": below(following, LITTLE), "random sets of the others": below(others, LITTLE)})


def sufficiency(kept: Estimate) -> Judgement:
    """Sufficiency: when no other head sees the pictures, the top 5 % keep nine tenths of the accuracy."""
    return Judgement(above(kept, ENOUGH))


def acceleration(loss: Estimate, p: float, sets: int, prefill: float | None = None, length: str = "4k") -> Judgement:
    """Acceleration: with the top 5 % dense, at most 2 points are lost, matched sets keep as much in less than 5 % of
    the draws, and prefill is as many times as fast as `FASTER` says; without `prefill` the speed is not judged.

    Raises: UnknownName for a length that no rule speaks of.

    >>> acceleration(Estimate(0.01, 0.0, 0.02), p=0.04, sets=20, prefill=1.5).why
    'prefill: 1.50 times, 1.7 are asked for'
    """
    if loss.value <= LOST and loss.high < LOST_AT_MOST:
        kept = Verdict.SUPPORTED
    else:
        kept = Verdict.CONTRADICTED if loss.low > LOST else Verdict.UNDECIDED
    parts: dict[str, Verdict | Judgement] = {"accuracy lost": kept, "against matched sets": beyond_null(p, sets)}
    if prefill is not None:
        bar = FASTER[check_known("length of the rule", length, FASTER)]
        slow = Judgement(Verdict.CONTRADICTED, f"{prefill:.2f} times, {bar} are asked for")
        parts["prefill"] = Verdict.SUPPORTED if prefill >= bar else slow
    return all_of(parts)


def together(domains: Mapping[str, Judgement]) -> Judgement:
    """One verdict of several domains of a model, if they agree; else it is undecided. All of them must be measured."""
    found = {one.verdict for one in domains.values()} or {Verdict.NOT_MEASURED}
    if Verdict.NOT_MEASURED in found:
        missing = [name for name, one in domains.items() if one.verdict is Verdict.NOT_MEASURED]
        return Judgement(Verdict.NOT_MEASURED, "" if len(found) == 1 else ", ".join(missing))
    if len(found) == 1:
        return Judgement(found.pop(), "; ".join(dict.fromkeys(one.why for one in domains.values() if one.why)))
    return Judgement(Verdict.UNDECIDED, "; ".join(f"{name} {one.verdict}" for name, one in domains.items()))


def everywhere(parts: Iterable[Judgement], what: str) -> Judgement:
    """A rule that must hold in every one of several cells: supported in all, contradicted in one, undecided else."""
    parts = list(parts)
    counts = {verdict: sum(one.verdict is verdict for one in parts) for verdict in Verdict}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    if not parts or counts[Verdict.NOT_MEASURED]:
        return Judgement(Verdict.NOT_MEASURED, told)
    if counts[Verdict.SUPPORTED] == len(parts):
        return Judgement(Verdict.SUPPORTED, f"all {len(parts)} {what}")
    contradicted = counts[Verdict.CONTRADICTED] > 0
    return Judgement(Verdict.CONTRADICTED if contradicted else Verdict.UNDECIDED, f"of {len(parts)} {what}: {told}")
