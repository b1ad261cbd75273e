"""Answers that a model writes itself, and the rule by which they are right."""

from __future__ import annotations

import pytest
from test_records import ROWS

from corelib import load, task
from corelib.core.errors import BadInput
from corelib.experiments.generate import Generations, generate_answers
from corelib.tasks.hub import SOURCES, Hub


@pytest.mark.parametrize("domain", ["scenes", "documents", "video"])
def test_what_is_written_is_what_is_most_likely(vlm, domain):
    work = task(domain)
    found = generate_answers(vlm, work.draw("select", samples=24), batch_size=10)
    answers = vlm.answer(vlm.encode(work.samples("select", 0, 24)))
    assert found.right == tuple(answers.correct.tolist()) and any(found.right)
    assert found.rule == "exact" and len(found.texts) == 24


@pytest.mark.parametrize("name", SOURCES)
def test_a_data_set_is_judged_by_its_own_rule(name, monkeypatch):
    monkeypatch.setattr(Hub, "rows", lambda self: [ROWS[name]] * 2)
    work, tiny = task(f"hub:{name}"), load("tiny-random:qwen3-vl")
    split = next(split for split, groups in work.dealt.items() if groups)
    monkeypatch.setattr(type(tiny), "generate", lambda self, encoded, tokens: [one.answer for one in encoded.samples])
    found = generate_answers(tiny, work.draw(split, samples=1))
    assert found.rule == "exact" and found.right == (True,)
    monkeypatch.setattr(type(tiny), "generate", lambda self, encoded, tokens: ["nothing"])
    assert generate_answers(tiny, work.draw(split, samples=1)).right == (False,)


def test_it_is_stated_with_its_interval():
    stated = Generations("exact", ("7",) * 10, (True,) * 8 + (False,) * 2).accuracy
    assert stated.accuracy == 0.8 and stated.samples == 10
    assert round(stated.low, 3) == 0.490 and round(stated.high, 3) == 0.943


def test_bad_requests(vlm):
    with pytest.raises(BadInput, match="tokens must be a whole number, 1 or more, got 0"):
        generate_answers(vlm, task("scenes").draw("select", samples=64), tokens=0)
