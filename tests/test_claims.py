"""The report card says what the results say."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from corelib.analysis.stats import p_value_of_counts
from corelib.atlas import library
from corelib.atlas.claims import Claim, claims, expectations
from corelib.atlas.rules import Finding, beyond, earlier, kept, needed
from corelib.core.heads import HeadSet
from corelib.core.values import Accuracy, Estimate
from corelib.experiments.ablation_curve import Dose
from corelib.experiments.ablation_result import Condition, Conditions, Loss, Null, Percentile
from corelib.experiments.hybrid import CoreDense, Hybrid

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import report_card  # noqa: E402


def claim(*held: bool) -> Claim:
    return Claim("t", "r", "", "", tuple(Finding("m", ("d",), "", "", one) for one in held))


def losing(base: float, losses: list[float]) -> dict[str, Null]:
    return {"layer_matched": Null((), tuple(base - loss for loss in losses), ())}


def test_verdicts_are_words():
    assert claim().verdict == "not measured"
    assert claim(True, True).verdict == "holds"
    assert claim(True, False, False).verdict == "holds in part (1 of 3)"
    assert claim(False).verdict == "does not hold"


def test_the_rule_of_the_ablation_has_three_parts():
    found = library.ablation("mini-s", "scenes")

    def that_costs(loss: Estimate) -> Condition:
        return replace(found.conditions.core, loss=Loss(loss, loss))

    quiet = that_costs(Estimate(0.0, -0.01, 0.01))
    conditions = Conditions(core=that_costs(Estimate(0.5, 0.45, 0.55)), next=quiet, lowest=quiet)
    base = found.base.accuracy
    kept = replace(found, conditions=conditions, null=losing(base, [0.0] * 18 + [0.45, 0.7]))
    assert needed("m", "d", kept).holds  # one of twenty draws may lose more
    often = replace(kept, null=losing(base, [0.0] * 17 + [0.6, 0.6, 0.7]))
    assert not needed("m", "d", often).holds
    few = replace(kept, null=losing(base, [0.1] * 10), percentile={"layer_matched": Percentile(1 / 11, 1 / 11)})
    assert needed("m", "d", few).holds and "p = 0.091 (the least that 10 sets allow)" in needed("m", "d", few).control
    for name in ("next", "lowest"):
        loud = that_costs(Estimate(0.05, 0.0, 0.2))
        assert not needed("m", "d", replace(kept, conditions=replace(conditions, **{name: loud}))).holds


def test_a_loss_that_other_sets_reach_is_not_beyond_them():
    """59 of 61 right; 55 without the tested heads, and 55 without any of the others: no more is lost, to the bit."""
    plain = library.ablation("mini-s", "scenes")
    base, left = 59 / 61, 55 / 61
    core = plain.conditions.core
    loss = replace(core.loss, accuracy=Estimate(4 / 61, 0.0, 0.1))
    conditions = replace(plain.conditions, core=replace(core, loss=loss))
    assert 4 / 61 > base - left  # one is a mean of differences, the other a difference of means
    tied = replace(plain, base=replace(plain.base, accuracy=base), conditions=conditions)
    null = plain.null["layer_matched"]
    tied = replace(tied, null={"layer_matched": replace(null, accuracy=(left,) * 20)})
    assert not beyond("m", "d", tied).holds
    less = replace(tied, null={"layer_matched": replace(null, accuracy=(56 / 61,) * 20)})
    assert beyond("m", "d", less).holds


def test_committed_percentiles_are_those_of_the_counts():
    """Right answers are whole numbers: how often does another set leave as few?"""
    for path in sorted((library.HOME / "ablations").glob("*/*.json")):
        found = library.KINDS["ablations"].load(path)
        for name, null in found.null.items():
            right, *others = (share * found.task.samples for share in (found.conditions.core.accuracy, *null.accuracy))
            assert all(abs(count - round(count)) < 1e-6 for count in (right, *others)), path
            exact = p_value_of_counts(round(right), [round(count) for count in others])
            assert found.percentile[name].accuracy == exact, (path, name)


def test_the_rule_of_acceleration_has_two_parts():
    def hybrid(lost: float, high: float, others: float) -> Hybrid:
        core = (CoreDense(HeadSet("L0H0"), 9.0, 0.9 - lost, 0.8, 1.0, Estimate(lost, -0.01, high)),)
        found = library.hybrid("mini-s-long", "scenes")
        base = Accuracy(0.9, 0.85, 0.95)
        return replace(found, doses=(0.05,), base=base, core=core, layer_matched=((others,), (others,)))

    good = kept("m", "d", hybrid(0.005, 0.015, 0.4))
    assert good.holds and good.effect == "0.5 points [-1.0, 1.5] of 90 %"
    assert good.control == "layer-matched 50.0 points"
    assert not kept("m", "d", hybrid(0.005, 0.025, 0.4)).holds
    assert not kept("m", "d", hybrid(0.005, 0.015, 0.89)).holds  # others lose as little


def test_every_claim_is_judged_where_it_was_measured():
    found = claims(["mini-s"])
    assert [len(one.findings) for one in found[:2]] == [3, 3]
    assert {one.model for each in found[:3] for one in each.findings} == {"mini-s"}
    assert len({one.text for one in found}) == len(found)


def test_an_expectation_needs_its_whole_interval():
    found = library.ablation("mini-s", "scenes")
    ratio = Dose(0.2, 0.1, 0.4, 0.3)
    dose = replace(found, dose=replace(found.dose, ratio=ratio))
    assert earlier("m", "d", dose, limit=1.0).holds and not earlier("m", "d", dose, limit=1 / 3).holds
    assert "at most 0.20" in earlier("m", "d", dose, limit=1.0).effect  # the other order never reached its D50
    never = replace(found, dose=replace(found.dose, ratio=replace(ratio, value=None, high=None)))
    assert not earlier("m", "d", never, limit=1.0).holds
    assert {one.model for each in expectations(["mini-s"]) for one in each.findings} == {"mini-s"}


def test_the_page_and_the_readme_are_written_from_the_results(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report_card.py", "--check"])
    for read in ("claims", "expectations", "second_round"):
        monkeypatch.setattr(report_card, read, cache(getattr(report_card, read)))
    with pytest.raises(SystemExit) as stopped:
        report_card.main()
    assert not stopped.value.code, capsys.readouterr().err
    monkeypatch.setattr(report_card, "page", lambda *given: "")
    with pytest.raises(SystemExit) as stopped:
        report_card.main()
    assert stopped.value.code and "book/report_card.md is not what the results say" in capsys.readouterr().err
