"""Profiling: the numbers are those of eager attention, a killed run resumes, a seed fixes everything."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from corelib.core.errors import BadInput, BadResults, UnknownName
from corelib.core.values import MetricFacts
from corelib.experiments.evidence import swap_images, validate_evidence
from corelib.experiments.reading import ALL_QUANTITIES, check_quantities, read_heads, readable
from corelib.experiments.score_heads import measure_heads, score_heads
from corelib.metrics import metric
from corelib.tasks import DOMAINS, task


@pytest.mark.parametrize("domain", DOMAINS)
def test_profiling_agrees_with_eager_attention(vlm, domain):
    encoded = vlm.encode(task(domain).samples("select", 0, 3))
    found = read_heads(vlm, encoded)
    vlm.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            eager = vlm.model(**encoded.inputs, output_attentions=True, use_cache=False).attentions
    finally:
        vlm.model.set_attn_implementation("sdpa")
    attention = torch.stack(eager, 1)  # [batch, layer, head, query, key]
    on_evidence = (attention * encoded.evidence[:, None, None, None]).sum(-1)
    for name in ("answer", "last", "question"):
        rows = encoded.rows(name)[:, None, None]
        mean = (on_evidence * rows).sum(-1) / rows.sum(-1)
        most = on_evidence.masked_fill(~rows, -1).amax(-1)
        torch.testing.assert_close(found.scores[f"{name}/mean/raw"], mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.scores[f"{name}/max/raw"], most, atol=1e-5, rtol=0)


def test_batches_and_seeds(vlm):
    work = task("scenes")
    one, two, other = (
        measure_heads(vlm, work.draw("select", samples=6, seed=seed), batch_size=batch)
        for seed, batch in ((0, 2), (0, 6), (1, 6))
    )
    key = "answer/mean/raw"
    torch.testing.assert_close(one.scores[key], two.scores[key], atol=1e-5, rtol=0)
    assert not torch.allclose(two.scores[key], other.scores[key])


def test_a_killed_run_resumes_without_redoing(vlm, tmp_path, monkeypatch):
    work, path = task("video"), tmp_path / "store"
    whole = measure_heads(vlm, work.draw("select", samples=6), batch_size=2)

    def die(done, total):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_heads(vlm, work.draw("select", samples=6), batch_size=2, store=path, progress=die)
    calls = []
    original = type(vlm).answer
    monkeypatch.setattr(type(vlm), "answer", lambda self, encoded: calls.append(1) or original(self, encoded))
    resumed = measure_heads(vlm, work.draw("select", samples=6), batch_size=2, store=path)
    assert len(calls) == 1  # two of the three batches were on disk
    for key, values in whole.scores.items():
        torch.testing.assert_close(resumed.scores[key], values, atol=0, rtol=0)
    with pytest.raises(BadResults, match="other settings"):
        measure_heads(vlm, task("scenes").draw("select", samples=6), batch_size=2, store=path)


def test_scores_of_another_precision_are_not_mixed_in(vlm, tmp_path):
    """What is computed in bfloat16 does not go on with what was computed in float32, nor the other way round."""
    draw = task("scenes").draw("select", samples=4)
    half = torch.autocast("cpu", torch.bfloat16)
    for name, first, then in (("one", nullcontext(), half), ("two", half, nullcontext())):
        with first:
            measure_heads(vlm, replace(draw, samples=2), store=tmp_path / name)
        with then, pytest.raises(BadResults, match=r"other settings \(precision\)"):
            measure_heads(vlm, draw, store=tmp_path / name)


def test_the_scores_file_says_where_it_comes_from(vlm, tmp_path):
    asked = metric("lift", rows="question")
    scores = score_heads(vlm, task("documents").draw("validate", samples=5, seed=3), metric=asked)
    assert scores.model == vlm.facts and scores.model.sha256
    assert scores.task.domain == "documents" and scores.task.samples == 5 and scores.task.split == "validate"
    assert scores.metric == MetricFacts("lift", "question", "mean")
    assert scores.chance is None and score_heads(vlm, task("scenes").draw("select", samples=2)).chance > 0
    assert type(scores).load(scores.save(tmp_path / "s.json")) == scores


def test_swapped_questions_lose_their_evidence():
    samples = list(task("scenes").samples("test", 0, 3))
    swapped = swap_images(samples)
    assert [s.question for s in swapped] == [s.question for s in samples]
    assert swapped[0].images == samples[1].images and not swapped[0].evidence


def test_validity_reports_every_condition(vlm):
    found = validate_evidence(vlm, task("video").draw("test", samples=8, seed=1))
    names = {"base", "swapped", "constant", "without", "only"}
    assert set(found) == names | {f"{name}/{kind}" for name in names for kind in ("digit", "frame")}
    for name in names:  # of each kind, and of both together
        parts = [found[f"{name}/{kind}"] for kind in ("digit", "frame")]
        assert found[name].samples == 8 == sum(part.samples for part in parts)
        if name != "constant":  # each kind has its own most frequent answer
            assert found[name].accuracy * 8 == pytest.approx(
                sum(part.accuracy * part.samples for part in parts), abs=1e-3
            )
    drawn = list(task("video").draw("test", samples=8, seed=1))
    frames = [sample.answer for sample in drawn if sample.kind == "frame"]
    assert found["constant/frame"].accuracy == round(max(map(frames.count, frames)) / len(frames), 4)
    assert all(0 <= part.low <= part.accuracy <= part.high <= 1 for part in found.values())


def test_bad_options(vlm):
    with pytest.raises(BadInput, match="samples must be a whole number, 1 or more"):
        task("scenes").draw("select", samples=0)
    with pytest.raises(BadInput, match="batch_size must be a whole number, 1 or more"):
        score_heads(vlm, task("scenes").draw("select", samples=2), batch_size=0)
    for options, says in (
        ({"quantity": "lfit"}, "did you mean 'lift'"),
        ({"rows": "first"}, "query rows"),
        ({"reduce": "sum"}, "reduction"),
    ):
        with pytest.raises(UnknownName, match=says):
            metric(**options)
    with pytest.raises(BadInput, match="read in the last row"):
        metric("localization", rows="question")
    for quantity, says in (("contrastive", "no rivals|no picture"), ("localization", "no picture")):
        with pytest.raises(BadInput, match=says):
            score_heads(vlm, task("needle").draw("select", samples=2), metric=metric(quantity))
    with pytest.raises(BadInput, match="needle cannot give contrast"):
        score_heads(vlm, task("needle").draw("select", samples=2), metric=metric("contrast"))


def test_a_question_without_a_question_mark_cannot_ask_for_nothing(vlm):
    recital, needle = (task(name).sample("select", 0, 0) for name in ("recital", "needle"))
    assert {*ALL_QUANTITIES} - {*readable(needle)} == {"contrast", "contrastive", "localization"}
    assert {*readable(needle)} - {*readable(recital)} == {"null_calibrated"}
    with pytest.raises(BadInput, match="recital cannot give localization, null_calibrated: it has no picture; its"):
        check_quantities(recital, ("localization", "raw", "null_calibrated"))


def test_a_task_without_evidence_cannot_be_profiled(vlm):
    with pytest.raises(BadInput, match="arithmetic has no evidence"):
        score_heads(vlm, task("arithmetic").draw("select", samples=2))


def test_evidence_in_a_text_is_its_span(vlm):
    """The entry that is asked for is three tokens; at the answer row all tokens before it are visible."""
    work = task("needle")
    encoded = vlm.encode(list(work.samples("select", 0, 4)))
    words = vlm.tokenizer.convert_ids_to_tokens
    for row, sample in enumerate(encoded.samples):
        (first, past), ids = sample.spans[0], encoded.tokens[row]
        assert words(ids[encoded.evidence[row]]) == sample.context[first:past].split()
        assert words(ids[encoded.source[row]]) == sample.context.split()
        assert encoded.after_image[row].sum() == encoded.lengths[row].sum()
    scores = score_heads(vlm, work.draw("select", samples=16))
    assert scores.task.domain == "needle" and np.max(scores) > 3 * scores.chance
    visible = encoded.real[0].sum().item() - 1  # up to the answer row
    assert scores.chance == pytest.approx(3 / visible)
