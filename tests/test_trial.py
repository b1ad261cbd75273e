"""The acceleration trial: whole passes say the same, layers that all choices share run once, busy machines are told."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from corelib import atlas, plots
from corelib.analysis.kv_controls import kv_matched
from corelib.atlas import plan, trial_cells, verdicts
from corelib.atlas.acceleration_findings import acceleration_of, find_acceleration
from corelib.atlas.verdicts import Verdict, acceleration
from corelib.benchmarks.load import MachineLoad, cores_busy, require_quiet
from corelib.core.errors import BadInput, BadResults, UnknownName
from corelib.core.heads import HeadSet
from corelib.core.model_folder import Study
from corelib.core.values import Estimate
from corelib.experiments.out_of_window import out_of_reach
from corelib.experiments.trial import depth_of_evidence, measure_trial
from corelib.experiments.trial_result import Trial
from corelib.models.load import load
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.replay.skipped import kept_layers, skipped_layers
from corelib.sparse import Window, sparsify
from corelib.sparse.oracle_topk import oracle_topk
from corelib.tasks import task


@pytest.fixture(scope="module")
def pages():
    """Three pages: long enough that a window of 16 hides most of them."""
    return task("documents", pages=3)


@pytest.mark.parametrize(("name", "heads"), [("mini-s", "L3H0 L4H1"), ("bridge", "L23H0 L24H4")])
def test_layers_that_programs_share_run_once(name, heads):
    vlm = load(name)
    batch = vlm.encode(task("scenes").questions_for("test", 0, 0, 3))
    answer, window, first = replay_from_prefix(vlm, batch), Window(8), int(heads[1 : heads.index("H")])
    with sparsify(vlm.model, heads, window):
        whole = answer()
    with sparsify(vlm.model, HeadSet(), window):
        answer(keep=True)
    ran = []
    handles = [layer.register_forward_hook(lambda *given: ran.append(1)) for layer in layers_of(vlm)]
    with sparsify(vlm.model, heads, window):
        again = answer(first_layer=first)
        vlm.answer(batch)  # and nothing is left behind
        assert torch.equal(answer().logprob, whole.logprob)
    for handle in handles:
        handle.remove()
    assert torch.equal(again.logprob, whole.logprob) and torch.equal(again.correct, whole.correct)
    for wrong in ({"first_layer": vlm.num_layers}, {"first_layer": -1}, {"first_layer": 1, "keep": True}):
        with pytest.raises(BadInput, match="call with keep=True first"):
            answer(**wrong)
    with pytest.raises(BadInput, match="call with keep=True first"):
        replay_from_prefix(vlm, batch)(first_layer=1)


def layers_of(vlm):
    from corelib.replay.recorder import decoder

    return decoder(vlm.model)[0]


def test_skipped_layers_say_what_they_said(vlm):
    inputs, said = vlm.encode(task("scenes").samples("test", 0, 2)).inputs, []
    with torch.no_grad(), kept_layers(vlm.model, said):
        whole = vlm.model(**inputs).logits
    with torch.no_grad(), skipped_layers(vlm.model, said[:4]):
        assert torch.equal(vlm.model(**inputs).logits, whole)
    with torch.no_grad(), skipped_layers(vlm.model, [torch.zeros_like(one) for one in said[:4]]):
        assert not torch.equal(vlm.model(**inputs).logits, whole)  # they are what is read
    with pytest.raises(BadInput, match="7 layers to skip"), skipped_layers(vlm.model, [*said, said[0]]):
        pass


def test_a_trial_is_what_whole_passes_say(vlm, pages, tmp_path):
    scores, draw = atlas.cell("mini-s", "documents").scores(), pages.draw("test", samples=12, seed=5, questions=6)
    options = {"width": 16, "doses": (0.2, 0.05), "draws": 2, "few": 1, "best_keys": True}
    found = measure_trial(vlm, draw, scores, store=tmp_path / "store", **options)
    assert Trial.load(found.save(tmp_path / "trial.json")) == found
    encoded = vlm.encode(list(draw))
    window = Window(16, found.window.sinks)
    counted = out_of_reach(encoded, window)
    assert 0 < found.task.counted == int(counted.sum()) < 12 and found.sets == 2

    def right(condition):
        with condition:
            return vlm.answer(encoded).correct[counted].double().mean().item()

    assert found.none.accuracy == pytest.approx(right(sparsify(vlm.model, HeadSet(), window)))
    assert found.base.accuracy == pytest.approx(vlm.answer(encoded).correct[counted].double().mean().item())
    for number, (dose, choice) in enumerate(zip((0.2, 0.05), found.choices, strict=True)):
        assert choice.heads == scores.top(dose)
        assert choice.kept.accuracy == pytest.approx(right(sparsify(vlm.model, choice.heads, window)))
        matched = kv_matched(choice.heads, 6, 8, 4, draws=1 if number else 2, seed=5)
        assert choice.matched == pytest.approx([right(sparsify(vlm.model, one, window)) for one in matched])
        assert len(choice.random) == 1
        wide = Window(choice.uniform.width, window.sinks)
        assert choice.uniform.kept.accuracy == pytest.approx(right(sparsify(vlm.model, HeadSet(), wide)))
        least = min(range(1, 200), key=lambda keys: abs(Window(keys, 0).mean_seen(found.window.tokens) - choice.keys))
        assert choice.best_keys.accuracy == pytest.approx(right(oracle_topk(vlm.model, least)))
    depth, base = depth_of_evidence(encoded)[counted], vlm.answer(encoded).correct[counted].double()
    assert sum(one.questions for one in found.depths) == found.task.counted
    for part in found.depths:
        mine = (depth >= part.begins) & (depth < part.ends)
        assert part.questions == int(mine.sum())
        assert part.dense == (pytest.approx(base[mine].mean().item()) if mine.any() else None)
    again = measure_trial(vlm, draw, scores, store=tmp_path / "store", **options)  # read from the store
    assert again.choices == found.choices and again.seconds < found.seconds


def test_few_questions_for_all_but_the_headline(vlm, pages):
    scores, draw = atlas.cell("mini-s", "documents").scores(), pages.draw("test", samples=18, seed=5, questions=6)
    options = {"width": 16, "doses": (0.2, 0.05), "draws": 2, "few": 1, "best_keys": True}
    whole, found = (measure_trial(vlm, draw, scores, **options, few_on=few_on) for few_on in (None, 12))
    few = measure_trial(vlm, pages.draw("test", samples=12, seed=5, questions=6), scores, **options)
    assert whole.few == whole.task.counted == found.task.counted > found.few == few.task.counted
    headline, there = found.choices[0], few.choices[0]
    assert (found.base, found.none) == (whole.base, whole.none)
    assert (headline.kept, headline.uniform) == (whole.choices[0].kept, whole.choices[0].uniform)
    assert headline.beside == there.beside == there.kept.accuracy and headline.p == there.p
    assert (headline.matched, headline.random, headline.best_keys) == (there.matched, there.random, there.best_keys)
    assert found.choices[1] == few.choices[1]
    assert [one.matched for one in found.depths] == [one.matched for one in few.depths]
    assert [one.core for one in found.depths] == [one.core for one in whole.depths]


def test_depth_is_where_the_evidence_stands(vlm):
    work = task("documents", pages=4)
    batch = vlm.encode(work.questions_for("test", 3, 0, 20))
    page = [sample.evidence[0].image for sample in batch.samples]
    assert ((depth_of_evidence(batch) * 4).int().tolist()) == page


def test_p_counts_matched_sets_that_keep_as_much(vlm, pages):
    scores = atlas.cell("mini-s", "documents").scores()
    draw = pages.draw("test", samples=12, seed=5, questions=6)
    choice = measure_trial(vlm, draw, scores, width=16, draws=2, few=0).choices[0]
    as_good = sum(one >= choice.kept.accuracy for one in choice.matched)
    assert choice.beside == choice.kept.accuracy
    assert choice.p == (1 + as_good) / 3 and choice.random == () and choice.best_keys is None


def test_trials_refuse_bad_input(vlm, pages):
    scores = atlas.cell("mini-s", "documents").scores()
    draw = pages.draw("test", samples=12, seed=5, questions=6)
    for wrong, message in (
        ({"doses": ()}, "give a dose or more"),
        ({"draws": -1}, "draws of 0 or more"),
        ({"few_on": 5}, "from 6 .one set of pictures. to 12 samples"),
        ({"few_on": 13}, "few_on=13"),
        ({"width": 0}, "width is 0"),
        ({"width": 500}, "reaches the evidence of nearly all samples: take a smaller one"),
    ):
        with pytest.raises(BadInput, match=message):
            measure_trial(vlm, draw, scores, **{"width": 16, **wrong})
    with pytest.raises(BadInput, match=r"draw several \(questions=8\)"):
        measure_trial(vlm, pages.draw("test", samples=4), scores, width=16)
    other = atlas.cell("mini-m", "documents").scores()
    with pytest.raises(BadInput):
        measure_trial(vlm, draw, other, width=16)


def test_the_rule_of_acceleration():
    little, much = Estimate(0.01, 0.0, 0.025), Estimate(0.08, 0.05, 0.11)
    assert acceleration(little, 0.04, 20, 1.8).verdict is Verdict.SUPPORTED
    assert acceleration(little, 0.04, 20).verdict is Verdict.SUPPORTED
    assert acceleration(much, 0.04, 20, 1.8).verdict is Verdict.CONTRADICTED
    assert acceleration(Estimate(0.01, -0.02, 0.04), 0.04, 20, 1.8).verdict is Verdict.UNDECIDED  # too few questions
    assert acceleration(little, 0.25, 3, 1.8).verdict is Verdict.UNDECIDED  # too few controls
    assert acceleration(little, 0.5, 20, 1.8).verdict is Verdict.CONTRADICTED
    assert acceleration(little, 0.04, 20, 1.8, "7k").why == "prefill: 1.80 times, 2.2 are asked for"
    with pytest.raises(UnknownName):
        acceleration(little, 0.04, 20, 1.8, "8k")


def test_the_headline_cells_are_those_of_the_rule():
    first = {cell.domain: cell for cell in reversed(trial_cells.SHORT)}
    assert {name: cell.width for name, cell in first.items()} == {"scenes": 8, "documents": 32, "video": 16}
    long = [cell for cell in trial_cells.LONG_CELLS if cell.length == "4k"]
    for cell in (*first.values(), *long):
        assert cell.doses[0] == 0.05 and cell.draws == verdicts.FEWEST and cell.samples >= 2000
        assert cell.samples / 4 <= cell.few_on <= cell.samples * 0.28 and cell.few_on % cell.questions == 0
    assert all(cell.width == 256 and cell.samples >= 100 * cell.questions for cell in long)
    names = [cell.name for cell in (*trial_cells.SHORT, *trial_cells.LONG_CELLS)]
    assert len(set(names)) == len(names) and "documents-4k-w256" in names and "scenes-w8" in names


def test_the_card_says_what_a_headline_cell_says():
    found = atlas.trial("bridge", "scenes-w8")
    one, core = find_acceleration("bridge", "scenes"), found.choices[0]
    assert one.estimate == core.kept.loss and one.model == "bridge" and one.domain == "scenes"
    assert one.judgement == acceleration(core.kept.loss, core.p, 20)
    assert f"{found.none.accuracy:.3f}" in one.control and f"{max(core.matched):.3f}" in one.control
    assert find_acceleration("mini-s", "scenes").judgement.verdict is Verdict.NOT_MEASURED


def test_a_long_trial_is_judged_with_the_speed_of_its_own_heads():
    found, speed = atlas.trial("bridge", "documents-w32"), atlas.speed("bridge")
    with pytest.raises(BadResults, match="other weights, heads or windows"):
        acceleration_of(found, speed)  # its window is another
    mine = replace(found, window=replace(found.window, width=speed.window.width))
    slow = acceleration_of(mine, speed)
    assert slow.judgement.verdict is Verdict.CONTRADICTED and "2.2 are asked for" in slow.judgement.why
    assert f"{speed.at(7168).prefill.speedup:.2f} times at 7k" in slow.effect
    with pytest.raises(UnknownName, match="length"):
        speed.at(5000)


def test_a_trial_is_drawn_in_the_order_of_its_shares():
    found = atlas.trial("bridge", "documents-w32")
    panel = plots.trial_panel(found)
    assert panel["doses"] == sorted(one.dose for one in found.choices) and panel["base"] == found.base
    place = panel["doses"].index(found.choices[0].dose)
    assert panel["core"][place] == found.choices[0].kept
    drawn = [curve[place] for curve in panel["draws"]["layer-matched"]]
    assert drawn == list(found.choices[0].matched) and panel["draws"]["layer-matched"][-1][0] is None
    plots.hybrid_chart({"documents": panel})


def test_trials_are_planned(vlm):
    bridge = replace(vlm, name="bridge", study=plan.study("bridge"))
    planned = {job.name: job for job in plan.jobs(bridge) if job.kind == "trials"}
    assert planned.keys() == {cell.name for cell in trial_cells.SHORT}
    assert all(job.seed == verdicts.TRIAL for job in planned.values())


def test_what_is_planned_for_long_prompts(vlm):
    long = replace(vlm, name="bridge-long", study=Study(long_only=True))
    planned = [(job.kind, job.name) for job in plan.jobs(long)]
    assert len(set(planned)) == len(planned)
    assert {kind for kind, _ in planned} == {"rankings", "trials", "rests", "choices"}
    ranked = {name for kind, name in planned if kind == "rankings"}
    for kind, name in planned:  # every trial finds its ranking before it
        if kind == "trials":
            assert planned.index(("rankings", "-".join(name.split("-")[:2]))) < planned.index((kind, name))
    assert ranked == {f"{domain}-{length}" for domain in ("documents", "scenes") for length in ("1k", "2k", "4k", "7k")}
    small = [(job.kind, job.name) for job in plan.jobs(replace(long, name="mini-s-long"))]
    for kind in ("rankings", "rests", "choices"):
        assert [name for one, name in small if one == kind] == ["documents-2k", "scenes-2k"]
    assert small.index(("rankings", "scenes-2k")) < small.index(("rests", "documents-2k"))
    assert ("adaptations", "windows") in small


def test_other_work_is_noticed(run):
    burning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        assert cores_busy(0.5) > 0.5
        with pytest.raises(BadInput, match="give --busy"):
            require_quiet(busy=False)
        assert require_quiet(busy=True) > 0.5
        done = run("bench", "--lengths", "96", "--layers", 1, "--window", 8, "--sinks", 4)
        assert done.returncode == 2 and done.stderr.startswith("corelib: other work keeps"), done.stderr
    finally:
        burning.kill()
        burning.wait()
    assert MachineLoad(0.0, 1.0).busy and not MachineLoad(0.1, None).busy
    assert "no result" in str(MachineLoad(1.0, 0.0)) and "no result" not in str(MachineLoad(0.0, None))


def test_where_the_system_does_not_tell(monkeypatch, tmp_path):
    from corelib.benchmarks import load

    monkeypatch.setattr(load, "STAT", tmp_path / "none")
    assert cores_busy(0.0) is None and require_quiet(busy=False) is None
