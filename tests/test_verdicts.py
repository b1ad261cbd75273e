"""The rules of the second round, on numbers made up for each side of each limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from corelib.atlas import verdicts
from corelib.atlas.verdicts import Judgement, Verdict
from corelib.core.errors import BadInput
from corelib.core.values import Estimate

YES, NO, OPEN, NONE = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNDECIDED, Verdict.NOT_MEASURED
PAGE = Path(__file__).resolve().parents[1] / "book" / "rules.md"


def around(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value, value - half, value + half)


@pytest.mark.parametrize(
    ("moved", "p", "sets", "complement", "verdict"),
    [
        (around(0.9), 0.01, 100, around(0.0), YES),
        (around(0.4), 0.01, 100, around(0.0), NO),
        (around(0.5), 0.01, 100, around(0.0), OPEN),
        (around(0.9), 0.20, 100, around(0.0), NO),  # matched sets do as much
        (around(0.9), 0.05, 100, around(0.0), NO),  # α itself is not below α
        (around(0.9), 0.05, 19, around(0.0), OPEN),  # nineteen sets can never say
        (around(0.9), 1 / 21, 20, around(0.0), YES),
        (around(0.9), 1.0, 0, around(0.0), OPEN),
        (around(0.9), 0.01, 100, around(0.3), NO),  # the others move answers, too
        (around(0.9), 0.01, 100, around(0.1), OPEN),
        (around(0.4), 0.05, 9, around(0.0), NO),  # what is excluded stays so without a control
    ],
)
def test_extraction(moved, p, sets, complement, verdict):
    assert verdicts.extraction(moved, p, sets, complement).verdict is verdict


@pytest.mark.parametrize(("half", "verdict"), [(0.06, YES), (0.09, OPEN), (0.2, OPEN), (0.24, OPEN), (0.3, NO)])
def test_sparsity(half, verdict):
    assert verdicts.sparsity(around(half)).verdict is verdict


def test_the_others():
    assert verdicts.division(around(-0.1), 0.01, 100).verdict is YES
    assert verdicts.division(around(0.1), 0.01, 100).verdict is NO
    assert verdicts.necessity(around(0.8), 0.01, 100).verdict is YES
    assert verdicts.necessity(around(0.8), 0.3, 100).verdict is NO
    assert verdicts.necessity(around(0.3), 0.01, 100).verdict is NO
    assert verdicts.lower_ranked(around(0.05), around(0.0)).verdict is YES
    assert verdicts.lower_ranked(around(0.05), around(0.2)).verdict is NO
    assert verdicts.lower_ranked(around(0.09), around(0.0)).verdict is OPEN
    assert verdicts.sufficiency(around(0.95)).verdict is YES
    assert verdicts.sufficiency(around(0.5)).verdict is NO


def test_domains_agree_or_nothing_is_decided():
    yes, no = Judgement(YES), Judgement(NO, "p = 0.300")
    assert verdicts.together({"scenes": yes, "video": yes}).verdict is YES
    mixed = verdicts.together({"scenes": yes, "video": no})
    assert mixed.verdict is OPEN and mixed.why == "scenes supported; video contradicted"
    assert verdicts.together({}).verdict is NONE
    missing = verdicts.together({"scenes": yes, "video": Judgement(NONE)})
    assert missing.verdict is NONE and missing.why == "video"


def test_everywhere():
    yes, no, unsure, none = (Judgement(one) for one in (YES, NO, OPEN, NONE))
    assert verdicts.everywhere([yes, yes], "pairs").verdict is YES
    assert verdicts.everywhere([yes, unsure], "pairs").verdict is OPEN
    found = verdicts.everywhere([yes, unsure, no], "pairs")
    assert found.verdict is NO and found.why == "of 3 pairs: 1 supported, 1 contradicted, 1 undecided"
    assert verdicts.everywhere([yes, none], "pairs").verdict is NONE
    assert verdicts.everywhere([], "pairs").verdict is NONE


@pytest.mark.parametrize(
    ("without", "only", "verdict", "why"),
    [
        (0.14, 1.0, YES, ""),
        (0.67, 1.0, NONE, "59 % are kept without the evidence"),
        (0.14, 0.6, NONE, "50 % are kept with the evidence alone"),
    ],
)
def test_evidence_must_be_what_is_read(without, only, verdict, why):
    found = verdicts.valid_evidence(base=1.0, without=without, only=only, constant=0.2)
    assert found.verdict is verdict and found.why == why


def test_a_model_that_reads_nothing_has_no_valid_evidence():
    with pytest.raises(BadInput, match="no better than the best constant answer"):
        verdicts.valid_evidence(base=0.2, without=0.1, only=0.2, constant=0.2)


def test_a_control_that_cannot_be_is_refused():
    with pytest.raises(BadInput, match="give a p in"):
        verdicts.beyond_null(0.0, 100)


def test_the_page_says_what_the_code_says():
    told = PAGE.read_text(encoding="utf-8")
    assert f"seed {verdicts.SEED}" in told and f"one α, {verdicts.ALPHA}" in told
    assert f"fewer than {verdicts.FEWEST} control sets" in told and 1 / (1 + verdicts.FEWEST) < verdicts.ALPHA
    assert f"{verdicts.ENOUGH:.0%}".replace("%", " %") in told and f"{verdicts.LITTLE:.0%}".replace("%", " %") in told
    assert (verdicts.MOST, verdicts.STRONGLY, verdicts.FEW_HEADS, verdicts.MANY_HEADS) == (0.5, 0.5, 0.1, 0.25)
    assert f"seed {verdicts.CONFIRMING}" in told and verdicts.VALID == 0.75 and "three quarters of it" in told
    for words in ("More than half", "a tenth of the heads", "more than a quarter", "at least half of the way"):
        assert words in told
