"""A draw: which samples, about which pictures, in which batches; and what is refused before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelib.core.errors import BadInput, UnknownName
from corelib.core.values import TaskFacts
from corelib.tasks import task
from corelib.tasks.draw import TOGETHER, Draw
from corelib.tasks.scenes import Scenes


def draw(samples=6, questions=2, **more) -> Draw:
    return task("needle").draw("test", samples=samples, questions=questions, **more)


def same(one, two) -> bool:
    return all(
        (a.index, a.question, a.answer) == (b.index, b.question, b.answer) for a, b in zip(one, two, strict=True)
    )


def test_samples_are_those_of_the_task():
    work, drawn = task("scenes"), task("scenes").draw("validate", samples=6, seed=3, questions=2)
    by_hand = [sample for picture in range(3) for sample in work.questions_for("validate", 3, picture, 2)]
    assert len(drawn) == len(by_hand) == 6 and same(drawn, by_hand)
    assert same(work.draw("validate", samples=3, seed=3), work.samples("validate", 3, 3))
    assert drawn.clusters == (0, 0, 1, 1, 2, 2) == tuple(sample.index for sample in drawn) and drawn.pictures == 3
    assert draw(samples=3, questions=1).clusters == (0, 1, 2)


def test_it_is_a_sequence():
    drawn = draw()
    every = list(drawn)
    assert same([drawn[k] for k in range(6)], every) and same([drawn[-1]], every[-1:])
    for part in (slice(1, 5), slice(None, None, 2), slice(4, 1, -1), slice(3, 3), slice(-2, None)):
        assert same(drawn[part], every[part])
    assert same(drawn.take([5, 0, 4]), [every[5], every[0], every[4]]) and drawn.take([]) == []
    for outside in (6, -7):
        with pytest.raises(IndexError):
            drawn[outside]


def test_a_picture_is_drawn_once(monkeypatch):
    drawn, seen = task("scenes").draw("test", samples=6, questions=3), []
    one = Scenes.questions_for
    monkeypatch.setattr(Scenes, "questions_for", lambda work, *given: seen.append(given[2]) or one(work, *given))
    drawn.take([5, 0, 4, 1])
    assert seen == [1, 0]
    seen.clear()
    assert len(list(drawn)) == 6 and seen == [0, 1]


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 40), st.integers(1, 3), st.data())
def test_batches_are_of_whole_pictures(pictures, questions, size, together, data):
    drawn = draw(samples=pictures * questions, questions=questions)
    indices = data.draw(st.none() | st.sets(st.sampled_from(range(len(drawn)))).map(sorted))
    batches = drawn.batches(size, indices, together)
    assert [index for batch in batches for index in batch] == (list(range(len(drawn))) if indices is None else indices)
    about = [[drawn.clusters[index] for index in batch] for batch in batches]
    assert all(batches) and len({picture for one in about for picture in one}) == sum(len({*one}) for one in about)
    counts = [len({*one}) for one in about]
    assert not counts or max(counts) - min(counts) <= 1  # spread evenly
    assert all(len(batch) <= max(size, together * questions) for batch in batches)
    assert pictures < 2 or min(len({drawn.clusters[k] for k in one}) for one in drawn.batches(size, None, TOGETHER)) > 1


def test_pictures_that_may_always_be_together():
    assert draw().batches(1) == [[0, 1], [2, 3], [4, 5]]
    assert draw().batches(1, together=3) == [[0, 1, 2, 3, 4, 5]]
    assert draw(samples=8).batches(1, together=3) == [[0, 1, 2, 3], [4, 5, 6, 7]]  # none alone
    assert draw().batches(4, [1, 4]) == [[1, 4]] and draw().batches(4, []) == []
    with pytest.raises(BadInput, match="batch_size must be a whole number, 1 or more, got 0"):
        draw().batches(0)


def test_a_fingerprint_tells_draws_apart_but_not_their_lengths():
    one = draw()
    assert draw(samples=12).fingerprint == one.fingerprint
    others = (
        replace(one, split="select"),
        replace(one, seed=1),
        replace(one, questions=3),
        replace(one, task=task("recital")),
        replace(one, task=task("needle", entries=5)),
    )
    prints = [str(other.fingerprint) for other in (one, *others)]
    assert len({*prints}) == len(prints)


def test_facts_say_what_the_samples_are():
    assert draw(questions=1).facts(accuracy=0.5) == TaskFacts("needle", "test", 0, 6, accuracy=0.5)
    assert draw().facts(counted=4) == TaskFacts("needle", "test", 0, 6, questions=2, counted=4)
    assert draw(questions=1).facts(questions=1).questions == 1
    assert task("needle", entries=5).draw("test", samples=2).facts().difficulty == {"entries": 5}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"samples": 0}, "samples must be a whole number, 1 or more, got 0"),
        ({"samples": 2.0}, r"samples must be a whole number, 1 or more, got 2\.0"),
        ({"samples": True}, "samples must be a whole number, 1 or more, got True"),
        ({"questions": 0}, "questions must be a whole number, 1 or more, got 0"),
        ({"seed": -1}, "seed must be a whole number, 0 or more, got -1"),
        ({"seed": "0"}, "seed must be a whole number, 0 or more, got '0'"),
        ({"samples": 5}, "5 samples with 2 questions about each picture: give a multiple of 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, says):
    with pytest.raises(BadInput, match=says) as caught:
        draw(**given)
    assert len(str(caught.value).splitlines()) == 1


def test_a_split_that_does_not_exist_is_refused():
    with pytest.raises(UnknownName, match="unknown split 'dev'"):
        task("needle").draw("dev", samples=2)


def test_more_pictures_than_there_are_are_refused():
    @dataclass(frozen=True, kw_only=True)
    class Few(Scenes):
        def available(self, split, count):
            return min(count, 3)

    assert len(Few().draw("test", samples=6, questions=2)) == 6
    with pytest.raises(
        BadInput, match=r"has 3 pictures in test, and 8 samples with 2 questions .* need 4: ask for few"
    ):
        Few().draw("test", samples=8, questions=2)
