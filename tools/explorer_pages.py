"""Write the book's pages of the head explorer: the maps of the atlas, and attention that the bundled models pay.

python tools/explorer_pages.py            # book/_extra/explorer/*.html; runs the models (about a minute)
python tools/explorer_pages.py --check    # changes nothing, runs no model; fails if a page is not what the results say

`--check` takes the pictures and their attention from the page itself: another machine rounds them in other ways. All
else is made anew.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from corelib.atlas.explorer import Examples, domains_of_book, read_examples
from corelib.atlas.library import cell
from corelib.atlas.ranked import tested_task
from corelib.experiments.answer_sweep import check_model
from corelib.models.load import load
from corelib.plots.explorer import explorer_page
from corelib.plots.explorer.page import embedded
from corelib.tasks import DOMAINS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "book" / "_extra" / "explorer"
MODELS = ("mini-s", "mini-m", "bridge")
PICTURES = 3  # of each domain
BACK = ("../book/explorer.html", "← CoRe heads, the book")
DATA = re.compile(r'(<script type="application/json" id="data">)(.*?)(</script>)', re.DOTALL)


def page(model: str, examples: Examples) -> str:
    facts, domains = domains_of_book(model, examples)
    return explorer_page(facts, domains, back=BACK)


def measured(model: str) -> Examples:
    """The attention of a few samples in each domain; the tasks are those that test heads."""
    vlm = load(model)
    check_model(vlm, cell(model, DOMAINS[0]).scores())
    return {domain: read_examples(vlm, tested_task(vlm, domain), PICTURES) for domain in DOMAINS}


def data_of(text: str) -> dict[str, Any]:
    """The data inside a page."""
    found = DATA.search(text)
    if found is None:
        raise SystemExit("explorer_pages: this page holds no data")
    return json.loads(found[2])


def as_it_should_be(model: str, text: str) -> str:
    """The page anew, but for the examples of `text`, if those are of the same weights."""
    new = page(model, {})
    data, old = data_of(new), data_of(text)
    if data["model"] != old["model"]:
        return new
    for one, kept in zip(data["domains"], old["domains"], strict=True):
        one["examples"] = kept["examples"]
    return DATA.sub(lambda found: found[1] + embedded(data) + found[3], new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is out of date")
    if parser.parse_args().check:
        stale = [name for name in MODELS if not is_current(name)]
        for name in stale:
            print(f"{name}.html is not what the results say: python tools/explorer_pages.py", file=sys.stderr)
        sys.exit(bool(stale))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        text = page(name, measured(name))
        (FOLDER / f"{name}.html").write_text(text, encoding="utf-8")
        print(f"{(FOLDER / name).relative_to(ROOT)}.html: {len(text.encode()) / 1000:.0f} kB")


def is_current(name: str) -> bool:
    path = FOLDER / f"{name}.html"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return bool(DATA.search(text)) and as_it_should_be(name, text) == text


if __name__ == "__main__":
    main()
