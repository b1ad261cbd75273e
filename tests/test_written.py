"""What a model writes itself, in the place of the right answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from corelib import Sample, load, task
from corelib.analysis.agreement import spearman
from corelib.core.errors import BadInput
from corelib.experiments.ablation import ablate_top
from corelib.experiments.score_heads import score_heads
from corelib.experiments.written import place_of, written
from corelib.experiments.written_rows import WrittenRows, compare_written
from corelib.tasks import Draw


@pytest.fixture(scope="module")
def vlm():
    torch.set_num_threads(1)
    return load("mini-s")


@pytest.mark.parametrize(
    ("answer", "text", "place"),
    [
        ("7", "It is 7.", (6, 7)),
        ("7", "17", None),
        ("7", "7 or 9? 7", (8, 9)),
        ("Kettle", "a kettle", (2, 8)),
        ("нет", "Ответ: Нет.", (7, 10)),
        ("$5", "cost $5", (5, 7)),
        ("C++", "in C++.", (3, 6)),
    ],
)
def test_where_the_right_answer_stands(answer, text, place):
    assert place_of(answer, text) == place


def test_a_model_that_is_right_writes_the_right_answer(vlm):
    draw = task("documents").draw("select", samples=8, seed=3)
    own = written(vlm, draw, batch_size=3)
    right = [text == sample.answer for (text, _), sample in zip(own.written, draw, strict=True)]
    answers = vlm.answer(vlm.encode(draw))
    assert right == answers.correct.tolist() and sum(right) >= 6
    assert [sample.answer for sample in own] == [text for text, _ in own.written]
    assert vlm.answer(vlm.encode(own)).correct.all()  # what it wrote is the most likely
    ranking, theirs = score_heads(vlm, own), score_heads(vlm, draw)
    assert ranking.task.answers == "written" and theirs.task.answers is None
    assert np.corrcoef(np.ravel(ranking.values), np.ravel(theirs.values))[0, 1] > 0.99


def test_the_rows_are_those_of_the_part_that_answers(vlm):
    sample = task("scenes").sample("test", seed=0, index=0)
    said = replace(sample, answer="red square 7", told=(11, 12))
    batch = vlm.encode([said])
    whole = vlm.encode([replace(said, told=None)])
    assert whole.rows("answer").sum() == 3 and batch.rows("answer").sum() == 1
    assert torch.equal(batch.rows("answer")[0].nonzero(), whole.rows("answer")[0].nonzero()[-1:])
    assert vlm.tokenizer.decode(batch.tokens[0][batch.told[0]]) == "7"
    assert torch.equal(batch.rows("last"), whole.rows("last"))
    with pytest.raises(BadInput, match="marks nothing of 'red square 7'"):
        vlm.encode([replace(said, told=(40, 41))])


def test_the_same_rows_in_a_published_family():
    vlm = load("tiny-random:internvl")
    sample = replace(Sample.of([task("scenes").sample("test", seed=0, index=0).images[0]], "What?"), answer="it is 7")
    batch = vlm.encode([replace(sample, told=(6, 7)), sample])
    assert batch.rows("answer").sum(1).tolist() == [1, 7]
    assert batch.rows("answer")[0].nonzero().tolist() == [[batch.tokens.shape[1] - 2]]


def test_every_experiment_takes_them(vlm):
    draw = task("scenes").draw("test", samples=16, questions=2)
    ranking = score_heads(vlm, task("scenes").draw("select", samples=16))
    found = ablate_top(vlm, written(vlm, draw), ranking, draws=3, nulls=("random",))
    assert found.base.accuracy == 1.0 and found.task.answers == "written"


def test_written_answers_are_others_to_a_store(vlm, tmp_path):
    draw = task("scenes").draw("select", samples=4)
    score_heads(vlm, draw, store=tmp_path / "store")
    other = replace(draw, written=tuple(("1", None) for _ in range(4)))
    assert other.fingerprint != draw.fingerprint
    with pytest.raises(Exception, match=r"other settings \(written\)"):
        score_heads(vlm, other, store=tmp_path / "store")


def test_what_cannot_be_written_is_refused(vlm):
    draw = task("scenes").draw("select", samples=2)
    with pytest.raises(BadInput, match="written already"):
        written(vlm, written(vlm, draw))
    with pytest.raises(BadInput, match="tokens must be a whole number, 1"):
        written(vlm, draw, tokens=0)
    with pytest.raises(BadInput, match="1 written answers for 2 samples"):
        Draw(draw.task, "select", 0, 2, 1, (("7", None),))
    quiet = load("tiny-random:smolvlm")
    quiet.model.generation_config.forced_eos_token_id = 1  # at the last token, and there is but one
    with pytest.raises(BadInput, match="nothing to sample 0"):
        written(quiet, draw, tokens=1)


def test_rankings_at_what_is_right_and_at_what_is_written(tmp_path):
    """Random weights write nothing that is right: other rows, and another ranking."""
    vlm, draw = load("tiny-random:internvl"), task("collage").draw("select", samples=6)
    found = compare_written(vlm, draw, tokens=3, store=tmp_path / "store")
    right, said = score_heads(vlm, draw), score_heads(vlm, written(vlm, draw, tokens=3))
    assert found.right == right.top() and found.written == said.top() and found.task == right.task
    assert found.spearman.value == pytest.approx(spearman(right, said)) and found.spearman.value < 1
    assert found.same.value == 0 and 0 < found.apart <= 6  # differences below a thousandth do not count
    assert found.shared.value == len(right.top() & said.top()) / len(right.top())
    assert WrittenRows.load(found.save(tmp_path / "found.json")) == found
    again = compare_written(vlm, draw, tokens=3, store=tmp_path / "store")
    assert replace(again, seconds=found.seconds) == found


def test_answers_of_one_token_have_one_ranking(vlm):
    """The last row of the prompt predicts the first token, whatever it is."""
    draw = task("scenes", objects=24).draw("select", samples=32)
    found = compare_written(vlm, draw)
    assert found.same.value < 1 and found.apart == 0 and found.spearman.value == pytest.approx(1)
    assert found.shared.value == 1 and found.right == found.written
