"""The head explorer in a real browser: by mouse and by keys, in light and in dark, wide and narrow.

Screenshots go to `_build/screenshots/explorer/`, to be looked at.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from values import some_scores

pytest.importorskip("selenium", reason="selenium comes with the extra test")

from chromium import CHROMIUM, DRIVER
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from test_browser import SHOTS
from test_browser import browser as browser

from corelib.plots.explorer import Domain, Measure, explorer_page

PAGES = Path(__file__).resolve().parents[1] / "book" / "_extra" / "explorer"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with chromedriver on this machine"),
]


def show(browser, page: Path, place: str = "", mode: str = "light", width: int = 1280) -> None:
    """Open a page from its file, at a width that the screen has."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": mode}]}
    )
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(page.resolve().as_uri() + place)


def text(browser, name: str) -> str:
    return browser.find_element(By.ID, name).text


def head(browser, name: str):
    layer, index = re.fullmatch(r"L(\d+)H(\d+)", name).groups()
    return browser.find_element(By.CSS_SELECTOR, f"[role=gridcell][title^='L{layer}H{index}:']")


def data_of(browser) -> dict:
    return json.loads(browser.execute_script("return document.getElementById('data').textContent"))


def painted(browser, most: float = 5):
    """Wait until attention is painted, and give the text that says how much it is."""
    WebDriverWait(browser, most).until(lambda _: text(browser, "looks"))
    return text(browser, "looks")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("model", ["mini-s", "mini-m", "bridge"])
def test_a_page_is_shown_whole_and_fetches_nothing(browser, model, mode, width):
    show(browser, PAGES / f"{model}.html", "#documents/L3H1", mode, width)
    assert painted(browser).startswith("From “")
    assert text(browser, "head-title") == "L3H1"
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width, f"the page is {wide - width} pixels wider than the screen"
    assert [one["message"] for one in browser.get_log("browser")] == []
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [one for one in fetched if not one.startswith("data:")] == []
    dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 128) == (mode == "dark"), dark
    shot = SHOTS / "explorer" / f"{model}-{mode}-{width}.png"
    shot.parent.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(shot))


def test_a_click_shows_the_numbers_of_a_head(browser):
    show(browser, PAGES / "mini-s.html")
    ram = data_of(browser)["domains"][0]["measures"][0]
    assert text(browser, "head-title") == "L{}H{}".format(*divmod(ram["order"][0], 8))  # the best, to begin with
    head(browser, "L0H4").click()
    value, low, high = (ram[name][4] for name in ("value", "low", "high"))
    facts = text(browser, "facts")
    assert text(browser, "head-title") == "L0H4" and f"{value:.3f} [{low:.3f}, {high:.3f}]" in facts
    assert text(browser, "standing") == f"rank {ram['order'].index(4) + 1} of 48 by RAM"
    assert "keys shared with\nL0H5" in facts and f"chance\n{ram['chance']:.3f}" in facts
    assert "tells the CoRe heads what to look for" in text(browser, "told")
    bars = browser.find_elements(By.CSS_SELECTOR, "#spread rect")
    assert sum(float(one.get_attribute("height")) > 0 for one in bars) == sum(n > 0 for n in ram["spread"]["counts"][4])
    assert browser.execute_script("return location.hash") == "#scenes/L0H4"
    framed = browser.find_elements(By.CSS_SELECTOR, "[role=gridcell].top")
    best = {"L{}H{}".format(*divmod(one, 8)) for one in ram["order"][: ram["top"]]}
    assert {one.get_attribute("title").split(":")[0] for one in framed} == best


def test_arrow_keys_walk_through_the_map_and_stop_at_its_edges(browser):
    show(browser, PAGES / "mini-s.html", "#scenes/L4H1")
    head(browser, "L4H1").send_keys(Keys.ARROW_UP)
    for key, name in (
        (Keys.ARROW_UP, "L5H1"),  # the deepest layer is on top
        (Keys.ARROW_RIGHT, "L5H2"),
        (Keys.ARROW_DOWN, "L4H2"),
        (Keys.HOME, "L4H0"),
        (Keys.ARROW_LEFT, "L4H0"),
        (Keys.END, "L4H7"),
        (Keys.PAGE_DOWN, "L0H7"),
        (Keys.ARROW_DOWN, "L0H7"),
    ):
        focused = browser.switch_to.active_element
        focused.send_keys(key)
        assert text(browser, "head-title") == name
        focused = browser.switch_to.active_element
        assert focused.get_attribute("title").startswith(f"{name}:") and focused.get_attribute("tabindex") == "0"
    cells = browser.find_elements(By.CSS_SELECTOR, "[role=gridcell]")
    assert len(cells) == 48 and all(one.get_attribute("aria-label") for one in cells)
    assert [one.get_attribute("aria-selected") for one in cells].count("true") == 1
    assert sum(one.get_attribute("tabindex") == "0" for one in cells) == 1  # one stop for the tabulator


def test_measures_domains_and_ranks_are_chosen(browser):
    show(browser, PAGES / "bridge.html", "#documents/L24H4")
    data = data_of(browser)["domains"][1]
    assert "keeps track of what was said" in text(browser, "told")
    Select(browser.find_element(By.ID, "measures")).select_by_visible_text("loss without it")
    lost = next(one for one in data["measures"] if one["name"] == "loss without it")
    number = 24 * 9 + 4
    assert text(browser, "standing").startswith(f"rank {lost['order'].index(number) + 1} of 270")
    assert f"{lost['value'][number]:.2f} [" in text(browser, "facts") and "nats of" in text(browser, "map-about")
    browser.find_element(By.ID, "higher").click()
    above = lost["order"][lost["order"].index(number) - 1]
    assert text(browser, "head-title") == "L{}H{}".format(*divmod(above, 9))
    browser.find_element(By.CSS_SELECTOR, "#ranking summary").click()
    rows = WebDriverWait(browser, 5).until(lambda one: one.find_elements(By.CSS_SELECTOR, "#ranking tbody tr"))
    assert len(rows) == 270 and rows[0].find_element(By.TAG_NAME, "button").text == "L{}H{}".format(
        *divmod(lost["order"][0], 9)
    )
    video = browser.find_elements(By.CSS_SELECTOR, "#domains input")[2]
    browser.execute_script("arguments[0].click()", video)
    assert Select(browser.find_element(By.ID, "measures")).first_selected_option.text == "loss without it"
    assert browser.execute_script("return location.hash").startswith("#video/")


def test_each_word_shows_its_own_attention(browser):
    """The numbers and the pixels are those of the committed bytes."""
    import base64
    import zlib

    show(browser, PAGES / "mini-s.html", "#scenes/L4H1")
    example = data_of(browser)["domains"][0]["examples"][0]
    table = zlib.decompress(base64.b64decode(example["attention"]))
    width, words = 2 + 36, len(example["words"])
    for word in (example["answering"].index(True), 2):
        radio = browser.find_elements(By.CSS_SELECTOR, "[name=word]")[word]
        browser.execute_script("arguments[0].click()", radio)
        start = (33 * words + word) * width
        mine = table[start : start + width]
        evidence, shown = mine[0] / 255, mine[1] / 255
        said = painted(browser)
        shares = [float(one) / 100 for one in re.findall(r"([\d.]+) %", said)]
        assert said.startswith(f"From “{example['words'][word]}”") and shares == pytest.approx(
            [shown, evidence], abs=0.006
        )
        alpha = browser.execute_script(
            "const c = document.querySelector('figure canvas').getContext('2d');"
            "const at = k => [(k % 6) * 8 + 4, Math.floor(k / 6) * 8 + 4, 1, 1];"
            "return [...Array(36).keys()].map(k => c.getImageData(...at(k)).data[3])"
        )
        assert alpha.index(max(alpha)) == mine.index(max(mine[2:]), 2) - 2
    boxes = browser.find_elements(By.CSS_SELECTOR, "figure i")
    assert len(boxes) == len(example["pictures"][0]["boxes"]) > 0


def test_hostile_names_are_shown_as_text(browser, tmp_path):
    name = "</script><img src=x onerror=document.title='taken'>"
    scores = some_scores([[0.5, 0.1], [-0.2, 0.0]], name=name, domain=name)
    page = tmp_path / "page.html"
    page.write_text(explorer_page(scores.model, [Domain(name, [Measure.of(scores)])]), encoding="utf-8")
    show(browser, page, "#%E0%A4%A")  # no name at all
    assert browser.title == f"Heads of {name}" and text(browser, "domains").endswith(name)
    assert browser.execute_script("return document.images.length") == 0
    assert [one["message"] for one in browser.get_log("browser")] == []
    head(browser, "L1H0").click()
    assert "−0.200" in text(browser, "facts")


def test_a_large_model_fits_a_phone(browser, tmp_path):
    scores = some_scores([[(layer * 16 + k) / 448 for k in range(16)] for layer in range(28)], name="Qwen/Qwen3-VL-2B")
    page = tmp_path / "page.html"
    page.write_text(explorer_page(scores.model, [Domain("scenes", [Measure.of(scores)])]), encoding="utf-8")
    show(browser, page, width=390)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script("return document.getElementById('map').scrollWidth") <= 390
    head(browser, "L27H15").click()
    assert text(browser, "standing").startswith("rank 1 of 448")


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_can_be_read(browser, mode):
    """The contrast of all texts is at least 4.5 to 1 (WCAG AA)."""
    show(browser, PAGES / "mini-s.html", "#scenes/L0H4", mode)
    faint = browser.execute_script(
        """
        const rgb = text => text.match(/[\\d.]+/g).map(Number);
        const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const light = ([r, g, b]) => {
          [r, g, b] = [r, g, b].map(v => linear(v / 255));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ground = e => {
          const colour = rgb(getComputedStyle(e).backgroundColor);
          return colour[3] === 0 ? ground(e.parentElement) : colour;
        };
        const says = e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        const found = [];
        for (const e of document.querySelectorAll('body :not(script, style, option, svg *)')) {
          if (!says(e)) continue;
          const a = light(rgb(getComputedStyle(e).color)), b = light(ground(e));
          const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          if (ratio < 4.5 && !e.disabled) found.push([e.innerText, ratio]);
        }
        return found;
        """
    )
    assert faint == []
