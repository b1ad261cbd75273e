"""The prose of the pages and the notebooks: the field's terms, numbered figures, and first screens that are short."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.stem[:2].isdigit()]
LOGS = (
    "report_card",
    "report_card_first_round",
    "rules",
    "api",
    "bibliography",
)  # generated, or kept as they were written
PAGES = [path for path in sorted((ROOT / "book").glob("*.md")) if path.stem not in LOGS]
LONGEST = 80  # words of a first screen


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def prose(text: str) -> str:
    """Text without code, formulas, addresses and marks."""
    for part in (r"```.*?```", r"`[^`]*`", r"\$\$.*?\$\$", r"\$[^$]*\$", r"\]\([^)]*\)", r"<[^>]*>", r"\{[^}]*\}"):
        text = re.sub(part, " ", text, flags=re.DOTALL)
    return text


def written(path: Path) -> str:
    if path.suffix == ".ipynb":
        return "\n\n".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    return path.read_text(encoding="utf-8")


def old_terms() -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("<!-- terms:start -->") : text.index("<!-- terms:end -->")]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, flags=re.MULTILINE)[1:]
    return [term.strip() for _, old in rows for term in old.split(",")]


def found(text: str) -> list[str]:
    return [term for term in old_terms() if re.search(rf"\b{re.escape(term)}\b", prose(text), flags=re.IGNORECASE)]


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: path.stem)
def test_the_fields_terms_are_used(path):
    assert not found(written(path)), f"{path.name}: see the terms in CONTRIBUTING.md"


@pytest.mark.parametrize(
    ("text", "terms"),
    [("A rival of the evidence.", ["rival"]), ("`rival_pairs` gives pairs.", []), ("It Fetches it.", ["fetches"])],
)
def test_the_check_of_terms_can_fail(text, terms):
    assert found(text) == terms


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_begins_with_its_question(path):
    first = "".join(cells(path, "markdown")[0]["source"])
    title, question = [line for line in first.splitlines() if line.strip()][:2]
    assert title.startswith("# ") and re.fullmatch(r"\*.*\?\*", question)


@pytest.mark.parametrize("path", [path for path in CHAPTERS if path.stem[:2] != "12"], ids=lambda path: path.stem)
def test_the_first_screen_is_a_picture_and_few_words(path):
    text = "".join(cells(path, "markdown")[0]["source"])
    finding = next(cell for cell in cells(path, "code") if "".join(cell["source"]).startswith("# @title The finding"))
    assert "hide-input" in finding["metadata"]["tags"] and finding["metadata"]["cellView"] == "form"
    data = [output["data"] for output in finding["outputs"] if "data" in output]
    assert any("image/png" in one for one in data)
    said = "".join("".join(one["text/markdown"]) for one in data if "text/markdown" in one)
    assert re.search(r"\d", said), "a finding has numbers"
    assert len(prose(text + said).split()) <= LONGEST


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_figures_and_exercises_are_numbered_by_chapter(path):
    chapter, text = int(path.stem[:2]), written(path)
    captions = re.findall(r"^\*Figures? (\d+)\.(\d+)(?: and \d+\.(\d+))?\.", text, flags=re.MULTILINE)
    numbers = [int(one) for _, *each in captions for one in each if one]
    assert numbers == list(range(1, len(numbers) + 1))
    exercises = re.findall(r"^### Exercise (\d+)\.(\d+): ", text, flags=re.MULTILINE)
    assert [int(number) for _, number in exercises] == list(range(1, len(exercises) + 1)) and exercises
    assert {int(one) for one, *_ in (*captions, *exercises)} == {chapter}
    assert not re.search(r"^### Exercise (?!\d+\.\d+: )", text, flags=re.MULTILINE)
