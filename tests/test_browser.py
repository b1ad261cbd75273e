"""Every page in a real browser, in light and in dark, wide and narrow: no error, nothing fetched from elsewhere.

Screenshots go to `_build/screenshots/`, to be looked at. Chromium and its driver are Debian's `chromium` and
`chromium-driver`; without them these tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import MISSING, chromium, serving

selenium = pytest.importorskip("selenium", reason="selenium comes with the extra test")

from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
SHOTS = ROOT / "_build" / "screenshots"
PAGES = sorted(
    path.relative_to(HTML).as_posix() for folder in ("book", "notebooks") for path in (HTML / folder).glob("*.html")
)

# Both come from the theme, on every page, and change nothing.
HARMLESS = ("THEBE_JS_URL", "Got invalid theme mode")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(MISSING, reason="no Chromium with chromedriver on this machine"),
    pytest.mark.skipif(not PAGES, reason="the book is not built: run `make book`"),
]


@pytest.fixture(scope="module")
def site():
    with serving(HTML) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


def show(browser, site, page, mode, width=1280, height=900):
    """Open a page in a mode, and wait until it has settled."""
    browser.set_window_size(width, height)
    browser.get(f"{site}/_static/basic.css")  # any page of the site: its storage is set before the page reads it
    browser.execute_script(
        "localStorage.setItem('mode', arguments[0]); localStorage.setItem('theme', arguments[0])", mode
    )
    browser.get_log("browser")
    browser.get(f"{site}/{page}")
    WebDriverWait(browser, 30).until(lambda b: b.execute_script("return document.readyState") == "complete")
    browser.execute_async_script(
        "const done = arguments[0]; const wait = window.MathJax && MathJax.startup ? MathJax.startup.promise : null;"
        "Promise.resolve(wait).then(() => document.fonts.ready).then(() => done())"
    )


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_shown_without_errors(browser, site, page, mode):
    show(browser, site, page, mode)
    assert browser.execute_script("return document.documentElement.dataset.theme") == mode
    shot = SHOTS / mode / (page.replace("/", "-").removesuffix(".html") + ".png")
    shot.parent.mkdir(parents=True, exist_ok=True)
    height = browser.execute_script("return document.documentElement.scrollHeight")
    browser.set_window_size(1280, min(int(height) + 100, 12_000))
    assert browser.save_screenshot(str(shot))

    said = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert [entry["message"] for entry in said if not any(one in entry["message"] for one in HARMLESS)] == []

    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [one for one in fetched if not one.startswith((site, "data:", "blob:"))] == []

    broken = browser.execute_script(
        "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    )
    assert broken == []
    wrong_formulas = browser.execute_script("return [...document.querySelectorAll('mjx-merror')].map(e => e.innerText)")
    assert wrong_formulas == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_phone(browser, site, page):
    show(browser, site, page, "light", width=412, height=900)
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 1, f"the page is {wide} pixels wider than the screen"


def test_formulas_are_set(browser, site):
    show(browser, site, "book/notation.html", "light")
    assert browser.execute_script("return document.querySelectorAll('mjx-container').length") > 10


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_can_be_read(browser, site, mode):
    """The contrast of running text is at least 7 to 1 (WCAG AAA)."""
    show(browser, site, "book/preface.html", mode)
    ratio = browser.execute_script(
        """
        const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const light = text => {
          const [r, g, b] = rgb(text).map(v => linear(v / 255));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const p = document.querySelector('article p');
        const a = light(getComputedStyle(p).color), b = light(getComputedStyle(document.body).backgroundColor);
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        """
    )
    assert ratio >= 7
