"""Causal results beside the atlas: what is measured, when it is measured again, and that it is of these weights."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from corelib import atlas
from corelib.atlas import accelerations, build, library, measures, plan, ranked
from corelib.benchmarks.tradeoff import measure_tradeoff
from corelib.core import model_folder
from corelib.core.errors import UnknownName
from corelib.experiments.answer_sweep import answer_sweep
from corelib.experiments.hybrid import measure_hybrid
from corelib.experiments.score_heads import score_heads
from corelib.models.load import load
from corelib.tasks import task


def test_every_result_is_measured_once(vlm, tmp_path, monkeypatch):
    ran = []

    def few(vlm, folder):
        for job in JOBS(vlm, folder):
            if job.name == "video" or (job.kind, job.name) == ("ablations", "scenes-on-needle"):
                yield job

    def quick(run, samples, **fixed):
        return lambda vlm, draw, *args, **options: run(
            vlm, replace(draw, samples=samples), *args, **{**options, **fixed}
        )

    @contextmanager
    def running(job):
        ran.append(job.name)
        yield lambda done, total: None

    JOBS = build.jobs
    small = {"samples": 8, "batch_size": 8, "draws": 3, "doses": None}
    monkeypatch.setattr(build, "jobs", few)
    monkeypatch.setattr(measures, "ablate_top", quick(measures.ablate_top, **small))
    found = list(build.build_results(vlm, kinds=["ablations"], folder=tmp_path, running=running))
    assert [path.stem for path in found] == ["video", "scenes-on-needle"] == ran
    assert not list(tmp_path.rglob("*.partial"))
    transfer = library.Ablation.load(found[1])
    assert (transfer.ranking.task.domain, transfer.task.domain) == ("scenes", "needle")
    assert list(transfer.null) == ["layer_matched"]
    list(build.build_results(vlm, kinds=["ablations"], folder=tmp_path, running=running))
    assert len(ran) == 2  # both are there
    found[0].write_text("{}")
    list(build.build_results(vlm, kinds=["ablations"], folder=tmp_path, running=running))
    assert ran[2:] == ["video"]  # it was not a result
    list(build.build_results(vlm, kinds=["ablations"], folder=tmp_path, running=running, again=True))
    assert len(ran) == 5
    only = list(build.build_results(vlm, names=["scenes-on-needle"], folder=tmp_path))
    assert [path.stem for path in only] == ["scenes-on-needle"]
    with pytest.raises(UnknownName, match="scenes-on-needle"):
        list(build.build_results(vlm, kinds=["ablations"], names=["scenes-on-needles"], folder=tmp_path))
    with pytest.raises(UnknownName, match="kind of result"):
        library.results("ablation", "mini-s")


def test_a_model_for_long_sequences_is_there_for_nothing_else(vlm, tmp_path, monkeypatch):
    long = replace(vlm, name="mini-s-long", study=plan.study("mini-s-long"))
    planned = [(kind, domain) for kind in ("hybrids", "tradeoffs") for domain in ("scenes", "documents")]
    kinds = ("rankings", "rests", "choices")  # of the chapter on acceleration
    planned += [(kind, f"{domain}-2k") for kind in kinds for domain in ("documents", "scenes")]
    assert [(job.kind, job.name) for job in build.jobs(long)] == [*planned, ("adaptations", "windows")]
    assert "bridge" in plan.measured() and not any(name.endswith("-long") for name in plan.measured())

    def on_few(run, samples, questions=1, **fixed):
        return lambda vlm, draw, *given, **options: run(
            vlm, replace(draw, samples=samples, questions=questions), *given, **options | fixed
        )

    monkeypatch.setattr(accelerations, "LONG", {"documents": {"pages": 3}})
    monkeypatch.setattr(accelerations, "score_heads", on_few(score_heads, 4))
    small = {"width": 8, "doses": (0.05,), "draws": 1}
    monkeypatch.setattr(accelerations, "measure_hybrid", on_few(measure_hybrid, 4, 2, **small))
    (path,) = build.build_results(long, kinds=["hybrids"], folder=tmp_path)
    found = library.Hybrid.load(path)
    assert found.task.difficulty["pages"] == 3 == found.ranking.task.difficulty["pages"]
    assert (found.task.split, found.ranking.task.split) == ("test", "select")
    assert found.model.name == "mini-s-long" and len(found.core) == 1
    few = {"widths": (4, 8), "doses": (0.0, 0.05), "repeats": 1, "busy": True}
    monkeypatch.setattr(accelerations, "measure_tradeoff", on_few(measure_tradeoff, 4, 2, **few))
    (path,) = build.build_results(long, kinds=["tradeoffs"], folder=tmp_path)
    assert [(one.width, one.dose) for one in library.Tradeoff.load(path).points] == [
        (4, 0),
        (4, 0.05),
        (8, 0),
        (8, 0.05),
    ]


def test_the_bridge_is_asked_for_digits_of_clips(vlm):
    bridge = replace(vlm, study=plan.study("bridge"))
    assert ranked.tested_task(vlm, "video").timed == 0.5 and ranked.tested_task(bridge, "video").timed == 0.0
    elsewhere = {"tradeoffs", "inheritance", "relays", "rankings", "trials", "rests", "choices", "adaptations"}
    assert {job.kind for job in build.jobs(vlm)} == {*library.KINDS} - elsewhere
    assert {"inheritance", "relays", "trials"} <= {job.kind for job in build.jobs(replace(bridge, name="bridge"))}
    names = [(job.kind, job.name) for job in build.jobs(vlm)]
    assert len(names) == len(set(names))


def test_committed_results_are_of_these_weights():
    digests = {name: model_folder.verify(model_folder.bundled_folder(name)) for name in model_folder.bundled_names()}
    seen = 0
    for kind in library.KINDS:
        for name in digests:
            for result in library.results(kind, name):
                found = library._read(kind, name, result)
                assert found.model.sha256 == digests[name], f"{kind}/{name}/{result}: other weights"
                assert found.task.split in (("select",) if kind in ("rankings", "written") else ("validate", "test"))
                seen += 1
    assert seen


def test_a_random_condition_is_had_again_from_the_weights(dice):
    """Accuracy of one condition of one committed ablation, to the sample."""
    kinds = [(name, result) for name in model_folder.bundled_names() for result in library.results("ablations", name)]
    small = [(name, result) for name, result in kinds if name.startswith("mini") and not result.count("-")]
    name, result = dice.choice(small)
    found = library.ablation(name, result)
    condition, facts = getattr(found.conditions, dice.choice(["core", "next", "lowest"])), found.task
    draw = task(facts.domain).draw(facts.split, seed=facts.seed, samples=facts.samples, questions=facts.questions)
    got = answer_sweep(load(name), draw, [condition.heads])
    assert got[0].accuracy == pytest.approx(condition.accuracy, abs=2 / facts.samples), (name, result)
    assert atlas.cell(name, facts.domain).scores().top() == found.conditions.core.heads
