"""Write the report card: what the committed results say about each claim of the paper's abstract.

python tools/report_card.py            # book/report_card.md, and the table in README.md
python tools/report_card.py --check    # changes nothing; fails if they are not what the results say
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from corelib.atlas.claims import Claim, claims, expectations
from corelib.atlas.plan import measured
from corelib.atlas.rules import Finding

ROOT = Path(__file__).resolve().parents[1]
FILES = "https://github.com/corelib-book/core-heads/blob/main/corelib/atlas"  # each number links to its result
PAGE, README = ROOT / "book" / "report_card.md", ROOT / "README.md"
MARKS = ("<!-- claims:start (written from the results; do not edit by hand) -->", "<!-- claims:end -->")

HEAD = """# Report card

What the bundled models say about each claim of the paper's abstract. This page is written from the committed results
(`tools/report_card.py`), and a test holds that it says what they say; no number on it is typed by hand.

A claim *holds* if its rule is met in every model and domain that was measured, *in part* if in some. The rule for
ablations was fixed before anything was measured, that for acceleration before the model for long sequences was tested.
The others follow the claims' own words, and were written down after the first numbers had been seen. *p* is how often
other sets do as much, with the tested one counted among them; where heads share a layer, few other sets of that layer
exist, and *p* cannot be small. Intervals are 95 %. A few differently trained small models are no scaling law. The
paper's own checkpoints: **not measured**.
"""
EXPECTED = """
## What we expected

Written down before the ablations were run; no claim of the paper's."""


def verdict(claim: Claim) -> str:
    """The verdict, and in which models, where some are still missing."""
    mine = list(dict.fromkeys(one.model for one in claim.findings))
    if not mine or set(mine) >= set(claim.questions_for or measured()):
        return claim.verdict
    return f"{claim.verdict}; measured only in {', '.join(f'`{name}`' for name in mine)} so far"


def page(found: list[Claim], expected: list[Claim]) -> str:
    """The report card in Markdown."""
    parts = [HEAD, "| claim | verdict |\n|---|---|"]
    parts[-1] += "".join(f"\n| {claim.text} | **{verdict(claim)}** |" for claim in found)
    parts += [section(claim, "##") for claim in found]
    parts += [EXPECTED, *(section(claim, "###") for claim in expected)]
    return "\n".join(parts) + "\n"


def section(claim: Claim, level: str) -> str:
    """What one claim rests on."""
    words = verdict(claim)
    text = f"\n{level} {claim.text}\n\n**{words[0].upper()}{words[1:]}.** Rule: {claim.rule}."
    if claim.chapter and (ROOT / "notebooks" / f"{claim.chapter}.ipynb").exists():
        text += f" [The chapter](../notebooks/{claim.chapter}.ipynb)."
    if claim.findings:
        text += "\n\n| model | domain | effect | control | rule met |\n|---|---|---|---|---|\n"
        text += "\n".join(line(claim.kind, one) for one in claim.findings)
    return text


def line(kind: str, one: Finding) -> str:
    domains = " · ".join(f"[{domain}]({FILES}/{kind}/{one.model}/{domain}.json)" for domain in one.domains)
    return f"| `{one.model}` | {domains} | {one.effect} | {one.control} | {'yes' if one.holds else 'no'} |"


def readme(text: str, found: list[Claim]) -> str:
    """README.md with its table of claims written anew."""
    table = "\n".join(f"| {claim.text} | {verdict(claim)} |" for claim in found)
    start, end = MARKS
    new = f"{start}\n| claim | verdict |\n|---|---|\n{table}\n{end}"
    return re.sub(re.escape(start) + ".*?" + re.escape(end), lambda _: new, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is out of date")
    options = parser.parse_args()
    found = claims()
    wanted = {PAGE: page(found, expectations()), README: readme(README.read_text(encoding="utf-8"), found)}
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
