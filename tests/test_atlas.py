"""The head atlas: a cell holds what it says, and can be had again from the weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

from corelib import atlas
from corelib.analysis.concentration import gini
from corelib.atlas import Cell
from corelib.atlas.build import build_cell
from corelib.core import model_folder
from corelib.core.errors import BadResults, UnknownName
from corelib.experiments.depth import knockout_from
from corelib.experiments.evidence import validate_evidence
from corelib.experiments.score_heads import score_heads
from corelib.metrics import DESCRIPTORS, METRICS, PRIMARY, Metric
from corelib.models.load import load
from corelib.tasks import RETRIEVING, task


@pytest.fixture(scope="module")
def built(vlm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    return Cell.load(build_cell(vlm, "scenes", folder=folder, samples=24))


def test_a_cell_holds_every_metric_and_every_kind(built, vlm):
    assert {*built.metrics} == {metric.key for metric in (*METRICS.values(), *map(Metric, DESCRIPTORS))}
    assert {*built.kinds} <= {"attribute", "relation"} and sum(k.samples for k in built.kinds.values()) <= 24
    scores = score_heads(vlm, task("scenes").draw("select", samples=24))
    np.testing.assert_allclose(built.scores(), scores, rtol=1e-3)
    assert built.scores().reliability == scores.reliability and built.scores().chance == scores.chance
    assert built.scores("answer/mean/lift").metric.quantity == "lift"
    assert {*built.summaries} == {"all", *built.kinds}
    whole = built.summaries["all"]
    assert {*vars(whole)} == {"gini", "participation_ratio", "top_share", "mean_depth", "half_share"}
    assert built.division.sets >= 6 and built.division.difference.low <= built.division.difference.value
    assert whole.gini.value == pytest.approx(gini(scores))
    for numbers in built.summaries.values():
        assert all(0 <= one.low <= one.high <= 1 for one in vars(numbers).values())


def test_depth_curves_run_from_blind_to_seeing(vlm):
    found = knockout_from(vlm, task("documents").draw("select", samples=32), layers=(0, 3, vlm.num_layers))["field"]
    judged = validate_evidence(vlm, task("documents").draw("select", samples=32, seed=0))
    assert found.samples == 32 and found.layers == (0, 3, vlm.num_layers)
    assert found.accuracy[0] == judged["without"].accuracy
    assert found.accuracy[-1] == judged["base"].accuracy


def test_what_is_not_there(built):
    with pytest.raises(UnknownName, match="metric of this cell"):
        built.scores("answer/mean/ram")
    with pytest.raises(UnknownName, match="kind of question"):
        built.of_kind("frame")
    with pytest.raises(UnknownName, match="model of the atlas"):
        atlas.cell("mini-z", "scenes")
    with pytest.raises(UnknownName, match="domain of"):
        atlas.cell(atlas.models()[0], "scene")


def test_a_damaged_cell_is_refused(built, tmp_path):
    path = built.save(tmp_path / "cell.json")
    payload = json.loads(path.read_text())
    path.write_text(json.dumps({**payload, "schema": "corelib/head-atlas/9"}))
    with pytest.raises(BadResults, match="has schema"):
        Cell.load(path)
    path.write_text(json.dumps({key: value for key, value in payload.items() if key != "kinds"}))
    with pytest.raises(BadResults, match="kinds"):
        Cell.load(path)
    payload["metrics"][PRIMARY.key]["scores"][0][0] = float("nan")
    path.write_text(json.dumps(payload))
    with pytest.raises(
        BadResults, match=r"metrics\.answer/mean/raw\.scores\.0\.0: Input should be a finite number, got nan"
    ):
        Cell.load(path)


def test_the_atlas_has_every_embedded_model_in_every_domain():
    assert {*model_folder.bundled_names()} <= {*atlas.models()}
    for name in model_folder.bundled_names():
        assert {*atlas.domains(name)} >= {*RETRIEVING}
        digest = model_folder.verify(model_folder.bundled_folder(name))
        for domain in RETRIEVING:
            assert atlas.cell(name, domain).model.sha256 == digest, f"{name}/{domain}: other weights; build it again"


def test_a_random_cell_can_be_had_again(dice):
    """Another cell, and another metric, every time; a quarter of the samples."""
    name = dice.choice([model for model in model_folder.bundled_names() if model_folder.room(model) == "mini"])
    domain = dice.choice(atlas.domains(name))
    cell = atlas.cell(name, domain)
    assert cell.task.split == "select" and cell.task.samples == 256
    key = dice.choice(sorted(cell.metrics))
    rows, reduce, quantity = key.split("/")
    found = score_heads(load(name), task(domain).draw("select", samples=64), metric=Metric(quantity, rows, reduce))
    committed = cell.scores(key)
    low, high = (np.array(table) for table in (committed.interval.low, committed.interval.high))
    reach = 3 * (high - low) + 0.02 * np.abs(committed).max() + 1e-6  # 64 of 256 samples: twice the spread
    assert (np.abs(np.asarray(found) - np.asarray(committed)) < reach).mean() > 0.97, (name, domain, key)
