"""The head explorer: what its pages say is what the scores say, nothing in them is taken for markup, and wrong input
ends in one line. How pages behave in a browser is tested in `test_explore_browser.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from values import some_scores

from corelib import atlas, task
from corelib.atlas.by_sample import sample_scores, samples_beside
from corelib.atlas.explorer import CALLED, domains_of_book, domains_of_files, scores_by_task, tell
from corelib.core.errors import BadInput, BadResults
from corelib.core.heads import HeadSet
from corelib.core.values import MetricFacts, ModelFacts
from corelib.models.attention_by_word import MOST_WORDS, attention_by_word
from corelib.models.attention_map import map_attention
from corelib.plots.explorer import Domain, Measure, explorer_page
from corelib.plots.explorer.examples import MOST_SQUARES, example_json, pooled
from corelib.tasks import DOMAINS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import explorer_pages  # noqa: E402

CELL = atlas.HOME / "cells" / "mini-s" / "scenes.json"
HOSTILE = "</script><img src=x onerror=alert(1)>&\u2028 ünïcode"


class Parts(HTMLParser):
    """The tags of a page, and the texts inside some of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.inside = ""
        self.attributes: list[str] = []
        self.texts: dict[str, list[str]] = {"title": [], "script": [], "style": []}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, text):
        if self.inside in self.texts:
            self.texts[self.inside].append(text)


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def four_digits(table) -> list[float]:
    return [float(f"{value:.4g}") for value in np.asarray(table).flatten()]


def unpacked(example: dict, heads: int) -> np.ndarray:
    """[head, word, byte]"""
    found = np.frombuffer(zlib.decompress(base64.b64decode(example["attention"])), np.uint8)
    return found.reshape(heads, len(example["words"]), -1)


def qwen(**more):
    """Scores of as many heads as Qwen3-VL-2B has."""
    table = np.random.default_rng(0).beta(0.3, 4, (28, 16))
    ends = {"low": (0.9 * table).tolist(), "high": (1.1 * table).tolist()}
    return some_scores(table, name="Qwen/Qwen3-VL-2B-Instruct", **ends, chance=0.01, **more)


# --- what a page says ---------------------------------------------------------------------------------------------


def test_a_page_holds_every_number_of_its_scores():
    cell = atlas.cell("mini-s", "scenes")
    (domain,) = data_of(explorer_page(cell.model, domains_of_files(scores_by_task([CELL]))))["domains"]
    assert domain["name"] == "scenes" and len(domain["measures"]) == len(cell.metrics)
    for shown, key in zip(domain["measures"], cell.metrics, strict=True):
        scores = cell.scores(key)
        for name, table in (("value", scores), ("low", scores.interval.low), ("high", scores.interval.high)):
            assert shown[name] == four_digits(table), (key, name)
        assert [divmod(head, 8) for head in shown["order"]] == [(one.layer, one.index) for one in scores.order()]
        assert shown["order"][: shown["top"]] and shown["top"] == len(scores.top(0.05))
        assert shown["chance"] == scores.chance and shown["level"] == 0.95 and shown["unit"] == ""
    assert [one["name"] for one in domain["measures"][:2]] == ["RAM", "RAM, most in the answer"]


def test_the_spread_counts_every_sample_where_its_score_lies():
    scores = atlas.cell("mini-s", "scenes").scores()
    by_sample = sample_scores("mini-s", "scenes")
    spread = Measure.of(scores, by_sample).to_json()["spread"]
    assert (spread["low"], spread["high"], spread["samples"]) == (0, 1, 256)
    for head, counts in enumerate(spread["counts"]):
        wanted, _ = np.histogram(by_sample.reshape(256, -1)[:, head], bins=20, range=(0, 1))
        assert (
            sum(counts) == 256 and np.abs(np.array(counts) - wanted).sum() <= 2
        )  # a value on an edge may go either way
    flat = Measure.of(scores, np.full((3, 6, 8), 2.5)).to_json()["spread"]
    assert flat["low"] < 2.5 < flat["high"] and all(sum(counts) == 3 for counts in flat["counts"])
    with pytest.raises(BadInput, match=r"of \(2, 2\) heads"):
        Measure.of(scores, np.zeros((3, 2, 2)))


def test_heads_that_do_not_see_the_whole_prompt_are_not_ranked():
    scores = some_scores([[0.9, 0.8], [0.1, 0.2]])
    scores = replace(scores, model=replace(scores.model, reach=(1,)))
    shown = Measure.of(scores).to_json()
    assert shown["order"] == [3, 2] and shown["top"] == 1


def test_no_text_of_a_file_becomes_markup():
    scores = some_scores([[0.5, 0.1]], name=HOSTILE, domain=HOSTILE)
    scores = replace(scores, metric=MetricFacts(HOSTILE, "answer", "mean"))
    page = explorer_page(scores.model, [Domain(HOSTILE, [Measure.of(scores)])], back=(HOSTILE, HOSTILE))
    plain = Parts(explorer_page(ModelFacts("m", "a", 1, 2, 1), [Domain("d", [Measure.of(some_scores([[0.5, 0.1]]))])]))
    parts = Parts(page)
    assert parts.tags == plain.tags and not [name for name in parts.attributes if name.startswith("on")]
    assert "".join(parts.texts["title"]) == f"Heads of {HOSTILE}"
    data = data_of(page)
    assert data["model"]["name"] == data["domains"][0]["name"] == HOSTILE
    assert HOSTILE.replace("_", " ") in data["domains"][0]["measures"][0]["name"]
    assert "\u2028" not in page.split('id="data">')[1].split("</script>")[0]


def test_a_page_names_no_address_and_trusts_one_script():
    page = explorer_page(*domains_of_book("mini-s"))
    assert not re.findall(r"""(?:src|href)=["'](?!data:)[^"']*|@import|url\(|fetch\(|XMLHttpRequest|innerHTML""", page)
    assert [one for one in re.findall(r"https?://[^\s\"'<]+", page) if "www.w3.org/2000/svg" not in one] == []
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    style, script = Parts(page).texts["style"], Parts(page).texts["script"][-1]
    for text in ("".join(style), script):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_a_page_needs_a_domain_with_a_measure():
    for domains in ([], [Domain("scenes", [])]):
        with pytest.raises(BadInput, match="one measure or more"):
            explorer_page(ModelFacts("m", "a", 1, 2, 1), domains)


def test_pages_without_pictures_are_small():
    scores = qwen()
    two = [Domain("a", [Measure.of(scores)] * 2), Domain("b", [Measure.of(scores)] * 2)]
    assert len(explorer_page(scores.model, two).encode()) < 100_000
    every = [
        Domain("a", [Measure.of(scores, np.random.default_rng(0).random((64, 28, 16)))] * 8)
    ]  # as many metrics as one may well want
    assert len(explorer_page(scores.model, every).encode()) < 300_000


# --- files --------------------------------------------------------------------------------------------------------


def test_files_of_one_task_and_metric_are_told_apart_by_name(tmp_path):
    paths = [some_scores([[0.5, 0.1]]).save(tmp_path / name) for name in ("a.json", "b.json")]
    paths.append(some_scores([[0.5, 0.1]], domain="video").save(tmp_path / "c.json"))
    assert list(scores_by_task([*paths, paths[0]])) == [str(paths[0]), str(paths[1]), "video"]
    lift = replace(some_scores([[0.5, 0.1]]), metric=MetricFacts("lift", "answer", "mean")).save(tmp_path / "lift.json")
    ((name, mine),) = scores_by_task([paths[0], lift]).items()
    assert name == "scenes" and len(mine) == 2


def test_samples_count_only_if_they_are_those_of_the_scores(tmp_path):
    scores = atlas.cell("mini-s", "scenes").scores()
    path = scores.save(tmp_path / "scores.json")
    assert samples_beside(path, scores) is None
    beside = path.with_suffix(".safetensors")
    beside.write_bytes(CELL.with_suffix(".safetensors").read_bytes())
    np.testing.assert_array_equal(samples_beside(path, scores), sample_scores("mini-s", "scenes"))
    for other in (
        replace(scores, model=replace(scores.model, sha256="0" * 64)),
        replace(scores, task=replace(scores.task, samples=128)),
        replace(scores, metric=replace(scores.metric, quantity="lift")),
    ):
        assert samples_beside(path, other) is None
    beside.write_bytes(b"cut short")
    with pytest.raises(BadResults, match=r"scores\.safetensors.*move it away"):
        domains_of_files(scores_by_task([path]))


# --- attention ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", DOMAINS)
def test_attention_by_word_is_that_of_single_rows(vlm, domain):
    sample = task(domain).sample("test", seed=0, index=1)
    seen = attention_by_word(vlm, sample)
    first = seen.answering.index(True)  # the last word of the prompt
    for layer, index in ((0, 4), (2, 3), (4, 1)):
        one = map_attention(vlm, sample.images, sample.question, video=sample.video, heads=HeadSet([(layer, index)]))
        for mine, theirs in zip(seen.maps, one.maps, strict=True):
            torch.testing.assert_close(mine[layer, index, first], theirs, atol=1e-5, rtol=1e-4)
    assert sum(seen.answering) == len(sample.answer) and len(seen.words) <= MOST_WORDS
    assert " ".join(seen.words).split()[1:-1][:3] == sample.question.split()[:3]
    total = sum(one.sum((-2, -1)) for one in seen.maps)
    assert float(total.max()) <= 1 + 1e-5 and (seen.evidence <= total + 1e-5).all()


def test_the_page_holds_attention_to_the_nearest_byte(vlm):
    seen = attention_by_word(vlm, task("video").sample("test", seed=0, index=0))
    example = example_json(seen)
    assert len(example["pictures"]) == 6 and all(one["step"] == 1 for one in example["pictures"])
    assert (example["answer"], example["said"]) == (seen.sample.answer, seen.said)
    table = unpacked(example, 48) / 255
    whole = torch.cat([one.flatten(-2) for one in seen.maps], -1).reshape(48, len(seen.words), -1).numpy()
    np.testing.assert_allclose(table[..., 2:], np.sqrt(whole), atol=0.5001 / 255)
    np.testing.assert_allclose(table[..., 0], seen.evidence.reshape(48, -1), atol=0.5001 / 255)
    np.testing.assert_allclose(table[..., 1], whole.sum(-1).clip(max=1), atol=0.5001 / 255)


def test_large_pictures_become_few_squares_and_lose_no_attention():
    table = torch.rand(2, 3, 25, 40)
    small = pooled(table, 4)
    assert small.shape == (2, 3, 7, 10) and max(small.shape[-2:]) <= MOST_SQUARES
    torch.testing.assert_close(small.sum((-2, -1)), table.sum((-2, -1)))
    torch.testing.assert_close(small[0, 0, 6, 9], table[0, 0, 24:, 36:].sum())


def test_a_sample_without_a_picture_has_no_attention_to_show(vlm):
    with pytest.raises(BadInput, match="with pictures and an answer"):
        attention_by_word(vlm, task("needle").sample("test", seed=0, index=0))


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_writes_what_the_files_say(run, tmp_path):
    path = qwen().save(tmp_path / "scores.json")
    done = run("explore", path, "--out", tmp_path / "heads.html")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    page = (tmp_path / "heads.html").read_text(encoding="utf-8")
    assert done.stdout.strip() == f"{tmp_path / 'heads.html'}: {len(page.encode()) / 1000:.0f} kB"
    assert data_of(page)["domains"][0]["measures"][0]["value"] == four_digits(qwen())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["heads.html", "scores.json"]


def test_the_command_reads_pictures_when_asked(run, tmp_path):
    done = run("explore", CELL, "--out", tmp_path / "heads.html", "--pictures", 2)
    assert done.returncode == 0, done.stderr
    (domain,) = data_of((tmp_path / "heads.html").read_text(encoding="utf-8"))["domains"]
    questions = [one["question"].split()[1] for one in domain["examples"]]
    assert len(questions) == 2 and sorted(word == "on" for word in questions) == [False, True]  # one of each kind
    assert unpacked(domain["examples"][0], 48).shape == (48, 6, 2 + 36)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.json", "--out", "a.html"], "cannot read missing.json"),
        (["text.json", "--out", "a.html"], "text.json is cut short or not JSON"),
        (["effects.json", "--out", "a.html"], "unknown kind of file in effects.json 'corelib/effects/1'"),
        (["one.json", "other.json", "--out", "a.html"], "give files of one model"),
        (["one.json", "--out", "a.json"], "ends in .html"),
        (["one.json", "--out", "a"], "ends in .html"),
        (["one.json", "--out", "nowhere/a.html"], "does not exist"),
        (["one.json", "--out", "folder.html"], "it is a folder"),
        (["scores.html", "--out", "scores.html"], "it is read by this command"),
        (["one.json", "--out", "a.html", "--pictures", "-1"], "from 0 to"),
        (["one.json", "--out", "a.html", "--pictures", "99"], "from 0 to"),
        (["one.json", "--out", "a.html", "--model", "mini-s"], "give --pictures"),
        (["one.json", "--out", "a.html", "--device", "cpu"], "give --pictures"),
        (["one.json", "--out", "a.html", "--pictures", "1", "--model", "mini-t"], "did you mean 'mini-"),
        (
            ["one.json", "--out", "a.html", "--pictures", "1", "--model", "mini-s"],
            "score the heads of this model first",
        ),
        (["needle.json", "--out", "a.html", "--pictures", "1"], "with pictures"),
    ],
)
def test_wrong_input_ends_in_one_line_and_writes_nothing(run, tmp_path, arguments, says):
    some_scores([[0.5, 0.1]]).save(tmp_path / "one.json")
    some_scores([[0.5, 0.1]], sha256="b").save(tmp_path / "other.json")
    some_scores([[0.5, 0.1]]).save(tmp_path / "scores.html")
    (tmp_path / "text.json").write_text("no scores")
    (tmp_path / "effects.json").write_bytes((atlas.HOME / "effects" / "mini-s" / "scenes-test.json").read_bytes())
    (tmp_path / "needle.json").write_bytes(CELL.with_name("needle.json").read_bytes())
    (tmp_path / "folder.html").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    done = run("explore", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "", done.stdout
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


# --- the book's pages ---------------------------------------------------------------------------------------------


def committed(model: str) -> dict:
    return data_of((explorer_pages.FOLDER / f"{model}.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("model", explorer_pages.MODELS)
def test_the_books_pages_are_whole_and_not_too_heavy(model):
    assert (explorer_pages.FOLDER / f"{model}.html").stat().st_size < 3_000_000
    data = committed(model)
    assert [one["name"] for one in data["domains"]] == list(DOMAINS)
    for domain in data["domains"]:
        assert "spread" in domain["measures"][0] and domain["measures"][0]["name"].startswith("RAM")
        assert [one["unit"] for one in domain["measures"][-2:]] == ["nats", "nats"]
        alone = atlas.effects(model, f"{domain['name']}-validate").alone
        assert domain["measures"][-2]["value"] == four_digits(alone.value)
        assert len(domain["examples"]) == explorer_pages.PICTURES
    stories = {name.split("-")[1] for name in atlas.results("stories", model)}
    assert {head for domain in data["domains"] for head in domain["told"]} == stories
    page = (ROOT / "book" / "explorer.md").read_text(encoding="utf-8")
    assert f'href="../explorer/{model}.html"' in page and data["back"]["href"] == "../book/explorer.html"


def test_the_books_pages_are_what_the_results_say():
    """The page of one model here; `--check` of all of them takes longer."""
    assert explorer_pages.is_current("mini-s")
    text = (explorer_pages.FOLDER / "mini-s.html").read_text(encoding="utf-8")
    assert explorer_pages.as_it_should_be("mini-s", text.replace('"value":[0.0', '"value":[0.9', 1)) == text


@pytest.mark.slow
def test_all_pages_of_the_book_are_what_the_results_say(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["explorer_pages.py", "--check"])
    with pytest.raises(SystemExit) as stopped:
        explorer_pages.main()
    assert not stopped.value.code, capsys.readouterr().err


def test_a_stale_page_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "mini-s.html").write_text("nothing")
    monkeypatch.setattr(explorer_pages, "FOLDER", tmp_path)
    monkeypatch.setattr(explorer_pages, "MODELS", ("mini-s",))
    monkeypatch.setattr(sys, "argv", ["explorer_pages.py", "--check"])
    with pytest.raises(SystemExit) as stopped:
        explorer_pages.main()
    assert stopped.value.code == 1 and "mini-s.html is not what the results say" in capsys.readouterr().err


def test_the_books_attention_is_the_models(vlm):
    """Within two steps of 255, for other processors round in other ways."""
    for domain in committed("mini-s")["domains"]:
        example = domain["examples"][0]
        drawn = task(domain["name"]).draw("test", samples=12)
        sample = next(one for one in drawn if one.question == example["question"] and one.answer == example["answer"])
        now = unpacked(example_json(attention_by_word(vlm, sample)), 48).astype(int)
        assert np.abs(now - unpacked(example, 48)).max() <= 2, domain["name"]


def test_chapter_7_calls_the_heads_so():
    chapter = json.loads((ROOT / "notebooks" / "07_causal_ablation.ipynb").read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) for cell in chapter["cells"] if cell["cell_type"] == "markdown")
    for said in (
        "tell the CoRe heads what to look for",
        "keep track of what was said",
        "CoRe head that the mean hides",
    ):
        assert said in text
    every = {
        f"{model} {name.split('-')[1]}" for model in ("bridge", "mini-s") for name in atlas.results("stories", model)
    }
    assert {one for heads in CALLED.values() for one in heads} == every
    told = tell(atlas.story("bridge", "documents-L16H2"))
    assert told.title == "Chapter 7: tells the CoRe heads what to look for"
    assert "without this head 0.34; without it, with the outputs of the CoRe heads restored, 0.98" in told.lines[1]
