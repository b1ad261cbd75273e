"""Write the report card: what the committed results say about each claim of the paper's abstract.

python tools/report_card.py            # book/report_card.md, and the table in README.md
python tools/report_card.py --check    # changes nothing; fails if they are not what the results say
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import claims_figure

from corelib.atlas.claims import Claim, claims, expectations
from corelib.atlas.findings import LEAD, Finding
from corelib.atlas.library import published
from corelib.atlas.rules import Finding as FirstFinding
from corelib.atlas.second_round import Row, kinds_apart, second_round
from corelib.atlas.verdicts import FEW_HEADS, SEED

ROOT = Path(__file__).resolve().parents[1]
FILES = "https://github.com/corelib-book/core-heads/blob/main/corelib/atlas"  # each number links to its result
PAGE, README = ROOT / "book" / "report_card.md", ROOT / "README.md"
MARKS = ("<!-- claims:start (written from the results; do not edit by hand) -->", "<!-- claims:end -->")
ACCELERATION = "10_acceleration"  # its row is of the first round until it is measured anew

HEAD = f"""# Report card

What the bundled models say about each claim of the paper's abstract. This page is written from the committed results
(`tools/report_card.py`), and a test holds that it says what they say; no number on it is typed by hand.

Each claim was given a rule before the data were drawn: {{doc}}`rules`. It is *supported*, *contradicted* or
*undecided*. The verdict is that of `{LEAD}`, the model with 270 heads, if its three domains agree; the other models
stand beside it. Heads were ranked on the split `select`, and tested on `test`, seed {SEED}. Intervals are 95 %. A few
differently trained small models are no scaling law. The paper's own checkpoints: **not measured**. How the first round
judged: {{doc}}`report_card_first_round`.
"""
ALT = (
    "A panel for each claim: the effect in every model and domain with its interval, by the model's number of heads; a "
    "dashed line marks the limit of the rule."
)
FIGURE = f"""
![{ALT}](_static/claims_by_size.png)

*Every model and domain, with 95 % intervals, by the number of heads of the model. The shaded side of the dashed line is
the one that the rule asks for. {{told}}*
"""
KINDS = """
## By kind of question

The first rule once more, with heads ranked and tested on one kind of question alone. Where hiding the evidence from all
heads does not hide the answer, the evidence is not what is read, and nothing is judged ({doc}`rules`).

| model | questions | effect | control | verdict |
|---|---|---|---|---|
"""
OTHERS = """
## By others' measurements

Large models, whose heads others scored, under the rule of sparsity ({{doc}}`rules`): a tenth of the heads or fewer hold
half. These have no interval, so a rule is *met* or *not met*, and nothing is judged. The commits of the files are in
`corelib/atlas/published.json`. {told}

| model | score | evidence | heads | hold half | rule |
|---|---|---|---|---|---|
"""
EXPECTED = """
## What we expected

Written down before the ablations of the first round were run; no claim of the paper's."""


def page(rows: list[Row], kinds: list[Finding], first: list[Claim], expected: list[Claim]) -> str:
    """The report card in Markdown."""
    parts = [HEAD, "| claim | verdict |\n|---|---|"]
    parts[-1] += "".join(f"\n| {row.claim} | **{row.verdict.verdict}** |" for row in rows)
    parts[-1] += "".join(f"\n| {one.text} | {one.verdict} (first round) |" for one in first)
    parts += [FIGURE.format(told=told_by_size()), *(section(row) for row in rows)]
    parts += [KINDS + "\n".join(map(line, kinds)), others()]
    parts += [first_section(one, "##") for one in first]
    parts += [EXPECTED, *(first_section(one, "###") for one in expected)]
    return "\n".join(parts) + "\n"


def others() -> str:
    """What others measured, by our rule; gates are no shares of attention, and are left out."""
    found = published()
    shown = [one for one in (*found.rankings, *found.told) if not one.score.startswith("gates")]
    rows = (
        f"| {one.name} | {one.score}{'' if one.source else ' (told)'} | {one.modality} | {one.counted} | "
        f"{one.half_share:.1%} | {'met' if one.half_share <= FEW_HEADS else 'not met'} |"
        for one in shown
    )
    return OTHERS.format(told=f"*Told*: {found.told_by}") + "\n".join(rows)


def told_by_size() -> str:
    """In how many panels a model stands on the rule's side in all domains, the model with most heads first."""
    met, panels = claims_figure.met(), len(claims_figure.PANELS)
    names = sorted(met, key=lambda name: -met[name])
    told = ", ".join(f"`{name}` in {met[name]}" for name in names)
    return f"On that side in all three domains, of {panels} panels: {told}."


def section(row: Row) -> str:
    """What one claim rests on."""
    judged = row.verdict
    why = f" {judged.why[0].upper()}{judged.why[1:]}." if judged.why else ""
    text = f"\n## {row.claim}\n\n**{judged.verdict.capitalize()}.**{why} Rule: {row.rule}."
    if (ROOT / "notebooks" / f"{row.chapter}.ipynb").exists():
        text += f" [The chapter](../notebooks/{row.chapter}.ipynb)."
    return (
        text
        + "\n\n| model | domain | effect | control | verdict |\n|---|---|---|---|---|\n"
        + "\n".join(map(line, row.findings))
    )


def line(one: Finding) -> str:
    why = f": {one.judgement.why}" if one.judgement.why else ""
    return (
        f"| `{one.model}` | {one.domain} | {one.effect or '–'} | {one.control or '–'} | {one.judgement.verdict}{why} |"
    )


def first_section(claim: Claim, level: str) -> str:
    """A claim of the first round, or an expectation."""
    words = claim.verdict
    text = f"\n{level} {claim.text}\n\n**{words[0].upper()}{words[1:]}.** Rule of the first round: {claim.rule}."
    if claim.findings:
        text += "\n\n| model | domain | effect | control | rule met |\n|---|---|---|---|---|\n"
        text += "\n".join(first_line(claim.kind, one) for one in claim.findings)
    return text


def first_line(kind: str, one: FirstFinding) -> str:
    domains = " · ".join(f"[{domain}]({FILES}/{kind}/{one.model}/{domain}.json)" for domain in one.domains)
    return f"| `{one.model}` | {domains} | {one.effect} | {one.control} | {'yes' if one.holds else 'no'} |"


def readme(text: str, rows: list[Row], first: list[Claim]) -> str:
    """README.md with its table of claims written anew."""
    table = [f"| {row.claim} | {row.verdict.verdict} |" for row in rows]
    table += [f"| {one.text} | {one.verdict} (first round) |" for one in first]
    start, end = MARKS
    new = "\n".join([start, "| claim | verdict |", "|---|---|", *table, end])
    return re.sub(re.escape(start) + ".*?" + re.escape(end), lambda _: new, text, flags=re.DOTALL)


def accelerated() -> list[Claim]:
    """The claim of acceleration, as the first round judged it."""
    return [one for one in claims() if one.chapter == ACCELERATION]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is out of date")
    options = parser.parse_args()
    rows, first = second_round(), accelerated()
    text = README.read_text(encoding="utf-8")
    wanted = {PAGE: page(rows, kinds_apart(), first, expectations()), README: readme(text, rows, first)}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if options.check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the results say: python tools/report_card.py", file=sys.stderr)
        sys.exit(bool(stale))
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
