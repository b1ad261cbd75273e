"""The book: its sources are sound, and the built pages need no network."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
STATIC = ROOT / "book" / "_static"
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import plain_docstrings  # noqa: E402

PAGES = sorted(path for path in HTML.rglob("*.html") if "_static" not in path.parts)
built = [pytest.mark.built, pytest.mark.skipif(not PAGES, reason="the book is not built: run `make book`")]

# Modules that the API page leaves out on purpose: a trailing dot means everything below.
NOT_SHOWN = (
    "corelib.cli",
    "corelib.cli.",
    "corelib.exercises",
    "corelib.exercises.",
    "corelib.__main__",
    "corelib.mini.",
    "corelib.bridge.",
    "corelib.training.",
    "corelib.families.bundled",
    "corelib.families.tiny",
    "corelib.families.tiny_configs",
    "corelib.families.tiny_templates",
    "corelib.tasks.assets",
    "corelib.tasks.shapes",
)


# --- sources -------------------------------------------------------------------------------------------------------


def shown_modules() -> list[str]:
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    return re.findall(r"^\.\. automodule:: (\S+)$", text, flags=re.MULTILINE)


def has_public_names(path: Path) -> bool:
    return bool(re.search(r"^(class|def) [a-zA-Z]", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


def test_the_api_page_names_only_what_exists():
    for name in shown_modules():
        path = ROOT / Path(*name.split("."))
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), f"{name} does not exist"
    assert len(shown_modules()) == len(set(shown_modules()))


def test_the_api_page_shows_every_module_or_leaves_it_out_on_purpose():
    shown = set(shown_modules())
    for path in sorted((ROOT / "corelib").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        left_out = any(f"{name}.".startswith(one) if one.endswith(".") else name == one for one in NOT_SHOWN)
        if has_public_names(path) and not left_out:
            assert name in shown, f"{name}: add it to book/api.md, or to NOT_SHOWN here"


def test_mathjax_is_vendored_whole():
    mathjax = STATIC / "mathjax"
    assert (mathjax / "tex-mml-chtml.js").stat().st_size > 1_000_000
    fonts = mathjax / "output" / "chtml" / "fonts" / "woff-v2"
    wanted = set(re.findall(r"MathJax_[A-Za-z0-9-]+(?=\.woff)", (mathjax / "tex-mml-chtml.js").read_text("utf-8")))
    assert {path.stem for path in fonts.glob("*.woff")} >= wanted
    assert len(list(fonts.glob("*.woff"))) == 23


def test_every_reference_has_what_a_reader_needs():
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{(\w+),(.*?)^\}", text, flags=re.DOTALL | re.MULTILINE)
    keys = [key for key, _ in entries]
    assert len(keys) == len(set(keys)) > 10
    for key, body in entries:
        for field in ("title", "author", "year", "url"):
            assert re.search(rf"^\s*{field} = |, {field} = ", body, flags=re.MULTILINE), f"{key} has no {field}"
        eprint = re.search(r"eprint = \{([\d.]+)\}", body)
        elsewhere = "https://" if "howpublished = " in body else "https://doi.org/10."
        address = f"https://arxiv.org/abs/{eprint.group(1)}" if eprint else elsewhere
        assert f"url = {{{address}" in body, f"{key}: the address is of another paper"


def test_every_citation_is_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text("utf-8"), re.MULTILINE))
    for page in [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]:
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page.read_text(encoding="utf-8")):
            assert set(keys.replace(" ", "").split(",")) <= known, f"{page.name} cites {keys}"


def test_notebooks_were_run_from_top_to_bottom_and_complain_of_nothing():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        numbers = [cell["execution_count"] for cell in cells]
        if "corelib" in notebook["metadata"] and not any(numbers):
            continue  # needs more than a CPU, and has not been run
        assert numbers == list(range(1, len(cells) + 1)), f"{path.name} was not run from top to bottom"
        outputs = [output for cell in cells for output in cell["outputs"]]
        assert not [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"], path.name
        assert str(Path.home()) + "/" not in json.dumps(outputs) and "site-packages" not in json.dumps(outputs), (
            path.name
        )


def broken_commands(text: str) -> list[str]:
    """Commands of TeX in the formulas of a text that a second backslash has turned into a line break and letters."""
    formulas = re.findall(r"\$\$.*?\$\$|\$[^$\n]+\$", text, flags=re.DOTALL)
    return [found for one in formulas for found in re.findall(r"\\\\[a-z]{2,}", one)]


def test_formulas_have_no_command_with_two_backslashes():
    assert broken_commands("$$ a \\\\cdot b $$") == ["\\\\cdot"] and not broken_commands("$a \\cdot b$")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                assert not broken_commands("".join(cell["source"])), path.name


def test_figures_of_ours_are_well_formed_and_named_for_those_who_cannot_see_them():
    from xml.etree import ElementTree

    for path in STATIC.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.find("{http://www.w3.org/2000/svg}title") is not None, path.name


@pytest.mark.parametrize(
    ("docstring", "rst"),
    [
        ("plain words", "plain words"),
        ("`a|b|` stays, |E| not", "`a|b|` stays, \\|E\\| not"),
        ("a:\n\n    x * y\n\nb", "a:\n\n::\n\n    x * y\n\nb"),
        ("a::\n\n    |x|", "a::\n\n    |x|"),
        ("* one |E|\n* two", "* one \\|E\\|\n* two"),
        (">>> 2 ** 3 | 1\n9", ">>> 2 ** 3 | 1\n9"),
        ("a *stressed* word", "a *stressed* word"),
        ("2 * 3 and x_ too", "2 \\* 3 and x\\_ too"),
    ],
)
def test_docstrings_become_restructuredtext(docstring, rst):
    assert "\n".join(plain_docstrings.convert(docstring.split("\n"))) == rst


def test_signatures_become_readable():
    assert plain_docstrings.tidy("(a: 'str', b: dict = <factory>)") == "(a: str, b: dict = ...)"
    assert plain_docstrings.tidy("(mode: str = 'zero')") == "(mode: str = 'zero')"


# --- built pages ---------------------------------------------------------------------------------------------------


def soup(page: Path):
    bs4 = pytest.importorskip("bs4", reason="beautifulsoup4 comes with the extra test")
    return bs4.BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def loads(page: Path) -> list[str]:
    """The addresses that a browser fetches to show a page (links that a reader may follow are not among them)."""
    document = soup(page)
    found = [
        tag.get("src") for tag in document.find_all(["script", "img", "iframe", "source", "video", "audio", "embed"])
    ]
    fetching = {"stylesheet", "preload", "prefetch", "icon", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
    found += [tag.get("href") for tag in document.find_all("link") if fetching & set(tag.get("rel", []))]
    for style in document.find_all("style"):
        found += re.findall(r"url\(['\"]?([^'\")]+)", style.get_text())
        found += re.findall(r"@import\s+['\"]([^'\"]+)", style.get_text())
    return [address for address in found if address]


def ids(items):
    return [path.relative_to(HTML).as_posix() for path in items]


class TestBuilt:
    pytestmark = built

    def test_every_page_of_the_table_of_contents_is_there(self):
        yaml = pytest.importorskip("yaml")
        toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
        names = [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
        assert [name for name in names if not (HTML / f"{name}.html").exists()] == []
        assert (HTML / "index.html").exists()

    @pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
    def test_a_page_fetches_nothing_from_elsewhere(self, page):
        away = [address for address in loads(page) if re.match(r"(?:https?:)?//", address)]
        assert away == []

    @pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
    def test_what_a_page_fetches_is_there(self, page):
        for address in loads(page):
            if not address.startswith("data:"):
                target = (page.parent / re.split(r"[?#]", address)[0]).resolve()
                assert target.exists(), f"{page.name} asks for {address}"

    @pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
    def test_links_within_the_book_lead_somewhere(self, page):
        for tag in soup(page).find_all("a", href=True):
            address = tag["href"]
            if re.match(r"[a-z]+:|//|#", address):
                continue
            path, _, anchor = address.partition("#")
            target = (page.parent / path.split("?")[0]).resolve()
            assert target.exists(), f"{page.name} links to {address}"
            if anchor and target.suffix == ".html":
                text = target.read_text(encoding="utf-8")
                assert f'id="{anchor}"' in text or f'name="{anchor}"' in text, f"{page.name} links to {address}"

    @pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
    def test_every_image_says_what_it_shows(self, page):
        for image in soup(page).select("article img"):
            text = image.get("alt", "").strip()
            bare = text == image.get("src") or text.endswith((".png", ".svg", ".jpg"))
            drawn_by_a_cell = image.find_parent(class_="cell_output") is not None
            assert text and (drawn_by_a_cell or not bare), f"{page.name}: {image.get('src')} has no alternative text"

    def test_formulas_use_our_copy_of_mathjax(self):
        page = (HTML / "book" / "notation.html").read_text(encoding="utf-8")
        assert re.search(r'src="[./]*_static/mathjax/tex-mml-chtml\.js', page)
        assert (HTML / "_static" / "mathjax" / "output" / "chtml" / "fonts" / "woff-v2").is_dir()

    def test_styles_fetch_nothing_from_elsewhere(self):
        for sheet in (HTML / "_static").rglob("*.css"):
            away = re.findall(r"url\(['\"]?((?:https?:)?//[^'\")]+)", sheet.read_text(encoding="utf-8"))
            assert away == [], sheet.name

    def test_nothing_of_the_machine_that_built_it_is_told(self):
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            assert str(ROOT) + "/" not in text, page.name
