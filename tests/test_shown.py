"""Results show themselves: one line each, and a card in a notebook."""

from __future__ import annotations

import pytest

from corelib import HeadSet, atlas, compare_heads

bs4 = pytest.importorskip("bs4", reason="beautifulsoup4 comes with the extra test")


@pytest.fixture(scope="module")
def shown():
    scenes, documents = (atlas.cell("bridge", domain).scores() for domain in ("scenes", "documents"))
    return {
        "scores": scenes,
        "set": scenes.top(),
        "ablation": atlas.ablation("bridge", "scenes"),
        "comparison": compare_heads(scenes, documents),
    }


def test_each_is_one_line(shown):
    for one in (*shown.values(), atlas.cell("bridge", "scenes"), atlas.hybrid("mini-s-long", "scenes")):
        assert "\n" not in repr(one) and len(repr(one)) < 160, repr(one)
    text = repr(shown["scores"])
    best = shown["scores"].order()[0]
    assert all(part in text for part in ("bridge", "scenes/select", "n = 256", f"{best} {shown['scores'][best]:.2f}"))
    assert eval(repr(shown["set"])) == shown["set"]
    assert repr(HeadSet.all(6, 8)) == "HeadSet(48 heads: L0H0 L0H1 … L5H7)"
    loss = shown["ablation"].conditions.core.loss.accuracy
    assert str(loss) in repr(shown["ablation"])


def test_each_is_a_card(shown):
    for name, one in shown.items():
        page = bs4.BeautifulSoup(one._repr_html_(), "html.parser")
        assert page.find("div")["style"].startswith("display:inline-block;background:#fbf8f1;color:#1d2733"), name
        assert page.find("table"), name
    page = bs4.BeautifulSoup(shown["scores"]._repr_html_(), "html.parser")
    cells = page.find_all("td", title=True)
    assert len(cells) == 270 and sum("outline" in cell["style"] for cell in cells) == 14
    scores, text = shown["scores"], page.get_text()
    assert f"{scores.chance:.3f}" in text and f"{scores.reliability.whole:.3f}" in text
    assert f"L18H6: {scores['L18H6']:.3g}" in {cell["title"] for cell in cells}
    assert cells[0]["title"].startswith("L29H0")  # the deepest layer on top


def test_what_a_name_holds_is_escaped():
    from corelib.core.html import card, rows

    assert "<b>" not in card("<b>", rows([["<b>"]], ["<b>"]))
