"""Draw the report card's figure: each claim's effect in every model and domain, by the model's number of heads.

python tools/claims_figure.py        # book/_static/claims_by_size.png
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from corelib.atlas import findings, library, verdicts
from corelib.atlas.findings import Finding
from corelib.atlas.plan import measured
from corelib.atlas.second_round import Judging
from corelib.plots import Claimed, Sized, claims_by_size
from corelib.tasks import DOMAINS

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "book" / "_static" / "claims_by_size.png"
PANELS = {  # a claim: what finds its effect, its rule's limit, and on which side of it the rule is met
    "answers that the top 5 % move": (findings.find_extraction, verdicts.MOST, True),
    "heads that hold half of RAM": (findings.find_sparsity, verdicts.FEW_HEADS, False),
    "lost without the top 5 %": (findings.find_necessity, verdicts.STRONGLY, True),
    "lost without the next 5 %": (findings.find_lower_ranked, verdicts.LITTLE, False),
    "kept by the top 5 % alone": (findings.find_sufficiency, verdicts.ENOUGH, True),
}


def claimed() -> dict[str, Claimed]:
    """Every panel's effects, of all models and domains that were measured."""
    return {
        name: Claimed([sized(one) for one in every(find) if one.estimate is not None], limit, above)
        for name, (find, limit, above) in PANELS.items()
    }


def every(find: Judging) -> list[Finding]:
    return [find(model, domain) for model in measured() for domain in DOMAINS]


def sized(one: Finding) -> Sized:
    facts = library.cell(one.model, one.domain).model
    assert one.estimate is not None  # `claimed` leaves out the others
    return Sized(one.domain, facts.num_layers * facts.num_heads, one.estimate)


def met() -> dict[str, int]:
    """Model → in how many of the panels the whole interval lies on the rule's side, in every domain."""
    found = dict.fromkeys(measured(), 0)
    for find, limit, above in PANELS.values():
        for model in found:
            effects = [find(model, domain).estimate for domain in DOMAINS]
            sides = [one is not None and (one.low > limit if above else one.high < limit) for one in effects]
            found[model] += all(sides)
    return found


def main() -> None:
    shown = {name: one for name, one in claimed().items() if one.effects}
    paper = io.BytesIO()
    claims_by_size(shown).savefig(paper, dpi=110)
    Image.open(paper).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(FILE, optimize=True)
    print(f"{FILE.relative_to(ROOT)}: {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
