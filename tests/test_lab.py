"""The lab: its data are of the present model, its decoder computes what PyTorch computes, and its page can be used."""

from __future__ import annotations

import base64
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from chromium import MISSING, chromium, serving

from corelib import ablate, atlas, record, redirect, sparsify, task
from corelib.core.heads import Head, HeadSet
from corelib.experiments.rivals import Asked, rival_pairs
from corelib.metrics.ram import ram, reduce_rows
from corelib.sparse import Window

selenium = pytest.importorskip("selenium", reason="selenium comes with the extra test")

from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import lab_data  # noqa: E402

SHOTS = ROOT / "_build" / "screenshots"
FREE, GAZE, OFF, NARROW = range(4)  # as in decoder.js
WINDOW = Window(8, sinks=4)
in_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(MISSING, reason="no Chromium with chromedriver on this machine"),
]


# --- the data ------------------------------------------------------------------------------------------------------


def test_the_data_are_of_the_present_weights_and_rankings():
    assert lab_data.out_of_date() == ""


@pytest.mark.parametrize(("name", "key"), [("weights", "sha256"), ("pictures", "sha256"), ("pictures", "rankings")])
def test_data_of_other_weights_or_rankings_are_out_of_date(name, key, tmp_path, monkeypatch):
    for one in ("weights.js", "pictures.js"):
        shutil.copy(lab_data.HOME / one, tmp_path)
    monkeypatch.setattr(lab_data, "HOME", tmp_path)
    lab_data.write(name, {**lab_data.read(name), key: "other"})
    assert lab_data.out_of_date().startswith(f"{name}.js")
    (tmp_path / f"{name}.js").unlink()
    assert lab_data.out_of_date() == f"{name}.js is not there"


def numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f2").astype(np.float32)


def test_pictures_are_those_that_the_tower_sees(vlm):
    found = lab_data.read("pictures")
    stored = numbers(found["numbers"]).reshape(2, found["tokens"], -1)
    for number in (0, 10, 20, 29):
        shown = found["pictures"][number]
        sample = task(shown["domain"]).sample("test", 0, number % lab_data.PICTURES)
        seen = lab_data.tower(vlm, sample).numpy()
        np.testing.assert_allclose(stored[:, shown["first"] :][:, : seen.shape[1]], seen, rtol=1e-3, atol=1e-4)


def test_the_lab_is_light_enough_for_a_phone():
    assert sum(path.stat().st_size for path in lab_data.HOME.iterdir()) < 6e6


# --- in the browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site():
    with serving(lab_data.HOME) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


def show(browser, address, width=1280, height=900, scheme="light"):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
    browser.get(address)
    WebDriverWait(browser, 30).until(lambda b: b.execute_script("return Boolean(globalThis.game)"))


def text(browser, name):
    return browser.execute_script("return document.getElementById(arguments[0]).innerText", name)


@pytest.fixture(scope="module")
def page(site):
    """The lab as a visitor finds it, for tests that leave it as it was."""
    with chromium() as driver:
        show(driver, f"{site}/index.html")
        yield driver


@pytest.fixture
def rounded(vlm):
    """The model, with what its tower puts out rounded to half precision, as in the data."""

    def halved(module, arguments, out):
        out.pooler_output = out.pooler_output.half().float()
        out.deepstack_features = [one.half().float() for one in out.deepstack_features]
        return out

    handle = vlm.model.get_submodule("model.visual").register_forward_hook(halved)
    yield vlm
    handle.remove()


READ = """
const [picture, sample, rival, states] = arguments, shown = lab.reader.pictures[picture];
const object = text => shown.objects[shown.questions.find(one => one.text === text).object];
const program = { states: Uint8Array.from(states), window: { width: 8, sinks: 4 }, target: rival && object(rival) };
const words = [...lab.reader.split(sample.question).words, ...sample.answer];
return Array.from(lab.reader.read(shown, words, program, object(sample.question)).logits);
"""


def states(**chosen: HeadSet) -> list[int]:
    found = [FREE] * 48
    for name, heads in chosen.items():
        for head in heads:
            found[8 * head.layer + head.index] = {"gaze": GAZE, "off": OFF, "narrow": NARROW}[name]
    return found


CONDITIONS = ("plain", "off", "redirected", "narrow", "redirected, others off, others narrow")


@pytest.mark.parametrize("domain", lab_data.DOMAINS)
class TestDecoder:
    pytestmark = in_browser

    @pytest.mark.parametrize("condition", CONDITIONS)
    def test_its_logits_are_those_of_pytorch(self, page, rounded, domain, condition):
        order = atlas.cell("mini-s", domain).scores().order()
        top, others = HeadSet(order[:5]), HeadSet(order[5:])
        gaze, off, narrow = {
            "plain": (HeadSet(), HeadSet(), HeadSet()),
            "off": (HeadSet(), top, HeadSet()),
            "redirected": (HeadSet(order[:10]), HeadSet(), HeadSet()),
            "narrow": (HeadSet(), HeadSet(), others),
            "redirected, others off, others narrow": (top, HeadSet(order[10:14]), HeadSet(order[20:])),
        }[condition]
        draw = task(domain).draw("test", samples=12, questions=lab_data.EXAMPLES)
        model, changed = rounded.model, 0.0
        for pair in rival_pairs(list(draw))[::3]:
            asked = Asked.of(rounded, [pair])
            batch = asked.batch
            rows = batch.after_image
            dense = HeadSet.all(6, 8) - narrow
            moving = redirect(model, gaze, asked.evidence, asked.target, rows) if gaze else nullcontext()
            with torch.no_grad():
                plain = model(**batch.inputs).logits[rows]
                with ablate(model, off), moving, sparsify(model, dense, WINDOW):
                    wanted = model(**batch.inputs).logits[rows]
            number = lab_data.DOMAINS.index(domain) * lab_data.PICTURES + pair.sample.index
            told = {"question": pair.sample.question, "answer": pair.sample.answer}
            rival = pair.rival.question if gaze else None
            found = page.execute_script(READ, number, told, rival, states(gaze=gaze, off=off, narrow=narrow))
            assert np.abs(np.reshape(found, wanted.shape) - wanted.numpy()).max() < 1e-3
            changed = max(changed, float((wanted - plain).abs().max()))
        assert condition == "plain" or changed > 0.5  # the condition does something

    def test_it_answers_and_looks_as_the_model_does(self, page, vlm, domain):
        draw = task(domain).draw("test", samples=8, questions=lab_data.EXAMPLES)
        for sample in draw.take((0, 4, 6)):
            number = lab_data.DOMAINS.index(domain) * lab_data.PICTURES + sample.index
            answer, masses = page.execute_script(
                "const found = lab.reader.ask(lab.reader.pictures[arguments[0]], arguments[1]);"
                "return [found.answer, [...Array(48).keys()].map(head => found.mass(head, found.evidence.tokens))]",
                number,
                sample.question,
            )
            batch = vlm.encode([sample])
            assert answer == sample.answer == vlm.answer(batch).predicted[0]
            with record(vlm.model, batch.rows("answer")) as recorded, torch.no_grad():
                vlm.model(**batch.inputs)
            scores = ram(recorded.stack()[:, 0], batch.evidence)
            real = torch.ones(6, scores.shape[-1], dtype=torch.bool)
            np.testing.assert_allclose(masses, reduce_rows(scores, real).flatten(), atol=1e-3)


def framed(browser):
    return browser.execute_script("return document.querySelectorAll('#map .gaze').length")


class TestPage:
    pytestmark = in_browser

    def test_a_visitor_sees_an_answer_three_heads_and_an_invitation(self, browser, site):
        show(browser, f"{site}/index.html")
        asked = browser.execute_script("return lab.picture.questions.find(one => one.text === lab.text)")
        said = text(browser, "say")
        assert asked["text"] in said and asked["answer"] in said and "click another object" in said
        assert framed(browser) == 3
        invited = browser.find_element("css selector", ".object.invite")
        assert browser.execute_script("return arguments[0].getBoundingClientRect().bottom < innerHeight", invited)
        invited.click()
        value = browser.execute_script("return lab.picture.objects[lab.target].value")
        assert f"changes from {asked['answer']} to {value}" in text(browser, "say")
        assert "the right answer is" in text(browser, "answer")
        browser.find_element("css selector", "#say button").click()
        assert asked["text"] in text(browser, "say") and "→" not in text(browser, "answer")

    def test_it_works_from_a_folder_and_from_a_server_without_an_error_or_another_address(self, browser, site):
        for home in (lab_data.HOME.as_uri(), site):
            browser.get_log("browser")
            show(browser, f"{home}/index.html")
            browser.execute_script(
                "lab.openNext('video'); lab.lookAt(lab.view.objects.findIndex(one => !one.disabled))"
            )
            assert [entry["message"] for entry in browser.get_log("browser")] == []
            fetched = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
            assert [one for one in fetched if not one.startswith((home, "data:"))] == []

    def test_all_of_it_can_be_done_with_the_keyboard(self, browser, site):
        show(browser, f"{site}/index.html")
        seen, body = set(), browser.find_element("css selector", "body")

        def press(*keys):
            browser.switch_to.active_element.send_keys(*keys)

        def here(question):
            return browser.execute_script(f"const one = document.activeElement; return {question}")

        body.send_keys(Keys.TAB)
        for _ in range(40):
            group = here("(one.closest('[id]') || one).id")
            if group in seen and group == "theme":
                break
            if group == "picture" and group not in seen:
                press(Keys.ARROW_RIGHT, Keys.ENTER)
                assert browser.execute_script("return lab.target") is not None
            if group == "modes" and group not in seen:
                press(Keys.ARROW_RIGHT)
                press(Keys.ARROW_RIGHT, Keys.ENTER)
                assert browser.execute_script("return lab.mode.name") == "off"
            if group == "map" and group not in seen:
                press(Keys.ARROW_DOWN)
                press(Keys.ENTER)
                assert here("one.className").strip() == "off"
            if group == "question":
                press(Keys.CONTROL, "a")
                press("digit on my cat ?", Keys.ENTER)
                assert "does not know “my”" in text(browser, "wrong")
            seen.add(group)
            press(Keys.TAB)
        wanted = {"theme", "picture", "others", "examples", "rows", "question", "next", "modes", "map", "count", "sets"}
        assert wanted <= seen, wanted - seen
        assert any(name.startswith("game") for name in seen)

    def test_a_question_is_written_from_words_that_lead_somewhere(self, browser, site):
        show(browser, f"{site}/index.html")
        for word in ("Start anew", "digit", "on", "green", "cross", "?"):
            chips = browser.find_elements("css selector", "#next button")
            next(chip for chip in chips if chip.text == word).click()
        assert browser.execute_script("return [lab.text, lab.answer.right]") == ["digit on green cross ?", True]
        browser.execute_script("lab.ask('digit on red red ?')")
        assert "not known" in text(browser, "say")
        browser.execute_script("lab.lookAt(3)")
        assert "now look at the" in text(browser, "say")
        for asked in ("", "digit " * 40):
            browser.execute_script("lab.ask(arguments[0])", asked)
            assert "1 to 24 words" in text(browser, "wrong")

    def test_answers_to_all_pictures_are_counted_as_corelib_counts_them(self, browser, site, vlm):
        show(browser, f"{site}/index.html")
        order = atlas.cell("mini-s", "scenes").scores().order()
        off = HeadSet(order[:8])
        right = 0
        for domain in lab_data.DOMAINS:
            draw = task(domain).draw("test", samples=40, questions=lab_data.EXAMPLES)
            examples = {pair.sample.index: pair.sample for pair in reversed(rival_pairs(list(draw)))}
            with ablate(vlm.model, off):
                right += int(vlm.answer(vlm.encode(list(examples.values()))).correct.sum())
        numbers = [8 * one.layer + one.index for one in off]
        browser.execute_script("lab.choose(1, []); lab.choose(2, arguments[0])", numbers)
        browser.execute_script("document.getElementById('strip').scrollIntoView()")
        now = "JSON.stringify({ states: lab.states, window: lab.window })"
        done = f"return document.getElementById('count-right').dataset.done === {now}"
        WebDriverWait(browser, 60).until(lambda b: b.execute_script(done))
        assert right < 25 and f"{right} of 30" in text(browser, "count-right")

    def test_random_heads_are_others_of_the_same_layers(self, page):
        top, drawn = page.execute_script("return [lab.top(5), lab.randomLikeTop(5)]")
        assert not set(top) & set(drawn)
        assert sorted(one // 8 for one in top) == sorted(one // 8 for one in drawn)
        assert page.execute_script("return lab.randomLikeTop(40)") is None

    def test_the_game_scores_as_corelib_does(self, page, vlm):
        heads = HeadSet([Head(4, 0), Head(4, 1)])
        draw = task("scenes").draw("test", samples=40, questions=lab_data.EXAMPLES)
        asked = Asked.of(vlm, rival_pairs(list(draw)))
        plain = vlm.answer(asked.batch)
        with redirect(vlm.model, heads, asked.evidence, asked.target, asked.batch.after_image):
            moved = vlm.answer(asked.batch).predicted
        rivals = [pair.rival.answer for pair in rival_pairs(list(draw))]
        follow = [one == rival for one, rival in zip(moved, rivals, strict=True)]
        share = np.mean(np.array(follow)[plain.correct.numpy()])
        found = page.execute_async_script("game.follows([32, 33]).then(arguments[0])")
        assert found == pytest.approx(share) and share > 0.5

    def test_the_game_ends_after_ten_clicks(self, browser, site):
        show(browser, f"{site}/index.html")
        browser.execute_script(
            "game.follows = async team => team.length / 4; document.querySelector('#game button').click()"
        )
        left = browser.execute_async_script(
            "const tap = () => game.click(33, { pointerType: 'touch' });"
            "tap().then(() => { const looked = game.left; tap().then(() => arguments[0]([looked, game.left])) })"
        )
        assert left == [10, 9]
        browser.execute_async_script("game.click(33, {}).then(arguments[0])")
        for _ in range(4):
            browser.execute_async_script("game.click(33, {}).then(() => game.click(33, {})).then(arguments[0])")
        ended = text(browser, "game")
        assert "The game is over" in ended and "25 %" in ended and "Play again" in ended

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_a_phone_and_can_be_read(self, browser, site, scheme):
        show(browser, f"{site}/index.html", 390, 844, scheme)
        assert browser.execute_script("return document.documentElement.dataset.theme") == scheme
        browser.execute_script("game.follows = async () => 0.5; document.querySelector('#game button').click()")
        for domain in lab_data.DOMAINS:
            browser.execute_script(
                "lab.openNext(arguments[0]); document.getElementById('question').value = ''; lab.offerWords()", domain
            )
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide == 390, domain
        assert browser.execute_script(CONTRAST, ".note") >= 4.5
        assert browser.execute_script(CONTRAST, "#say") >= 7
        SHOTS.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(SHOTS / f"lab-{scheme}.png"))
        browser.execute_script("document.getElementById('theme').click()")
        assert browser.execute_script("return document.documentElement.dataset.theme") != scheme


CONTRAST = """
const one = document.querySelector(arguments[0]), ground = one.closest('.panel, .say');
const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = text => {
  const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const a = light(getComputedStyle(one).color), b = light(getComputedStyle(ground).backgroundColor);
return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
"""
