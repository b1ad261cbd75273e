"""Figures: they can be drawn from results of any size, say what they are given, and leave no state behind."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from values import some_scores

from corelib import atlas, load, plots
from corelib.benchmarks.record_cost import CostAt, Spent, TooLarge
from corelib.benchmarks.speed import SpeedAt
from corelib.benchmarks.timing import Compared, Sizes
from corelib.benchmarks.tradeoff import Point
from corelib.core.errors import BadInput
from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet
from corelib.core.values import Accuracy, Estimate, Tables
from corelib.experiments.depth import DepthCurve
from corelib.experiments.knockout import PathCurve
from corelib.experiments.trial import AtDepth
from corelib.families.regions import Grid, tokens_of_box
from corelib.models.attention_map import AttentionMap
from corelib.models.locate import locate
from corelib.plots.style import ink_on
from corelib.sparse import Window
from corelib.tasks import Box, task

RNG = np.random.default_rng(0)


def head_scores(layers: int = 4, heads: int = 5) -> HeadScores:
    table = RNG.random((layers, heads))
    return some_scores(table, low=table - 0.1, high=table + 0.1)


def words(figure: Figure) -> str:
    """Everything that is written on a figure."""
    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def maps(sample, rows=3, columns=2):
    return [RNG.random((rows, columns)) for _ in sample.images]


@pytest.fixture(scope="module")
def samples():
    small = {"scenes": {"objects": 4}, "documents": {"pages": 2, "fields": 2}, "video": {"frames": 7}}
    return {name: task(name, **difficulty).sample("test", 0, 0) for name, difficulty in small.items()}


@pytest.mark.parametrize("domain", ["scenes", "documents", "video"])
def test_a_sample_shows_question_answer_and_regions(samples, domain):
    sample = samples[domain]
    text = words(plots.draw_sample(sample, given="wrong"))
    assert sample.question in text
    assert sample.answer in text
    assert "evidence" in text
    assert "✗" in text
    assert "✓" in words(plots.draw_sample(sample, given=sample.answer))
    assert "evidence" not in words(plots.draw_sample(sample, boxes=False))


@pytest.mark.parametrize("domain", ["scenes", "documents", "video"])
def test_attention_and_tokens_are_drawn_over_any_pictures(samples, domain):
    sample = samples[domain]
    grids = [Grid(rows=3, columns=2, width=image.width, height=image.height) for image in sample.images]
    plots.draw_tokens(sample.images, grids, [[0]] * len(grids), sample.evidence).draw_without_rendering()
    several = {"L0H1": maps(sample), "L2H3": maps(sample)}
    text = words(plots.draw_attention(sample.images, several, boxes=sample.evidence, video=sample.video, heading="why"))
    assert all(part in text for part in ("L0H1", "L2H3", "why", "attention on a token"))
    look = AttentionMap(
        sample.images, sample.question, tuple(map(torch.tensor, maps(sample))), HeadSet("L0H1"), sample.video
    )
    assert "L0H1" in words(plots.draw_attention_map(look, "7"))


def test_the_marked_token_is_the_one_that_is_filled():
    image = task("scenes").sample("test", 0, 0).images[0]
    grid = Grid(rows=6, columns=6, width=192, height=192)
    token = int(tokens_of_box(grid, Box(64, 96, 90, 120))[0])
    (panel,) = plots.draw_tokens([image], [grid], [[token]]).axes
    filled = [patch for patch in panel.patches if patch.get_fill()]
    assert [(patch.get_x(), patch.get_y()) for patch in filled] == [(64, 96)]


def test_strip_and_matrix_take_every_kind_of_token():
    kinds = ["special", "visual", "evidence", "text", "question", "answer"]
    tokens = [f"<|{kind}|>" for kind in kinds]
    text = words(plots.draw_strip(tokens, kinds))
    assert "special" in text
    assert "<|" not in text
    plots.draw_strip(tokens, kinds, RNG.random(6), heading="shaded").draw_without_rendering()
    plots.draw_matrix(np.tril(RNG.random((6, 6))), kinds).draw_without_rendering()


def test_a_head_map_frames_the_top_heads_and_names_none_of_a_bare_table():
    scores = head_scores()
    (top,) = scores.top()
    assert f"{scores[top]:.2f}" in words(plots.head_map(scores, chance=0.02))
    figure = plots.head_map({"raw": scores.values, "lift": np.asarray(scores)}, same_scale=True)
    assert not [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    plots.head_map(torch.rand(28, 16)).draw_without_rendering()


def test_charts_write_what_they_are_given():
    scores = head_scores()
    text = words(plots.ranked_curve(scores, chance=0.1, controls={"untrained": np.zeros((4, 5))}))
    assert str(scores.order()[0]) in text
    assert str(scores.order()[1]) not in text
    assert "untrained" in text
    table = {"scenes": {"base": Accuracy(0.91, 0.8, 0.97)}, "video": {}}
    assert "0.91" in words(plots.accuracy_chart(table))
    assert "0.75" in words(plots.share_chart({"L0H0": {"evidence": 0.75, "rest": 0.25}}))
    assert "square" in words(plots.row_map(RNG.random((3, 2)), ["red", "square"], ["L0H0", "L0H1", "L0H2"], marked=[1]))


def test_nothing_is_left_behind(tmp_path):
    before = dict(mpl.rcParams)
    figure = plots.head_map(head_scores())
    assert dict(mpl.rcParams) == before
    assert mpl.colors.to_hex(figure.get_facecolor()) == plots.PAPER  # opaque: readable on a dark page
    figure.savefig(tmp_path / "figure.png")
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize(("shade", "ink"), [((1, 1, 1), plots.INK), ((0, 0, 0.2), "white")])
def test_ink_can_be_read(shade, ink):
    assert ink_on(shade) == ink


def test_a_new_stage_of_training_is_marked():
    entry = {"scenes": {"loss": 1.0, "accuracy": 0.5}}
    log = [{"step": step, "stage": step // 4, **entry} for step in range(10)]
    for panel in plots.draw_training(log).axes:
        upright = [line.get_xdata()[0] for line in panel.lines if len(set(line.get_xdata())) == 1]
        assert upright == [4, 8]


def test_heads_under_two_scores():
    one, two = head_scores(6, 9), head_scores(6, 9)
    text = words(plots.head_scatter(one, two, ("text", "pictures"), named=2, heading="H"))
    assert {"RAM: text", "RAM: pictures", "layer", "H"} <= set(text.splitlines())
    for scores in (one, two):
        assert all(str(head) in text for head in scores.order()[:2])


def test_agreement_says_its_numbers_and_notes():
    text = words(plots.agreement_map(["a", "b"], [[1, 0.25], [0.25, 1]], [["", "3 of 14"], ["3 of 14", ""]]))
    assert text.count("0.25\n3 of 14") == 2
    assert "1.00" not in text  # nothing is compared with itself


def test_layers_and_steps():
    chart = plots.layer_chart({"scenes": [0.1, 0.2], "language model": [0.3, 0.1]})
    assert {"scenes", "language model", "layer"} <= set(words(chart).splitlines())
    grown = plots.draw_formation([0, 10, 120], {"accuracy": {"scenes": [0, 0.1, 0.9]}, "RAM": {"a": [0, 0, 1]}})
    text = words(grown).splitlines()
    assert {"accuracy", "RAM", "training step", "0", "10", "100"} <= set(text)


def test_lorenz_curves_say_how_uneven():
    text = words(plots.lorenz_chart({"by domain": {"scenes": head_scores(), "random weights": np.ones((4, 5))}}))
    assert "scenes: Gini 0." in text and "random weights: Gini 0.00" in text and "by domain" in text
    (band,) = plots.lorenz_chart({"m": {"scenes": np.ones((6, 8))}}).axes[0].patches
    assert band.get_x() == pytest.approx(1 - 3 / 48)  # whole heads: three of 48, not 5 %


def test_depth_runs_from_none_to_all():
    curve = DepthCurve(8, (0, 2, 4), accuracy=(0.1, 0.5, 0.9), low=(0.0, 0.4, 0.8), high=(0.2, 0.6, 1.0))
    figure = plots.depth_chart({"m": {"attribute": curve, "relation": curve}})
    lines = [line for line in figure.axes[0].lines if line.get_label() == "relation"]
    assert lines[0].get_xdata().tolist() == [0, 0.5, 1] and "attribute" in words(figure)


def test_division_of_labour_shows_every_head():
    core = HeadSet("L1H0 L2H3")
    figure = plots.division_chart({"visual": RNG.random((4, 5)), "sink": RNG.random((4, 5))}, core)
    for panel in figure.axes:
        rest, chosen = (len(dots.get_offsets()) for dots in panel.collections)
        assert (rest, chosen) == (18, 2)
    assert "CoRe heads" in words(figure)
    whole = plots.division_chart({"visual": np.ones((1, 2))}, HeadSet("L0H0 L0H1"))  # nobody is left to average
    assert "visual" in words(whole)


def test_several_row_maps_share_a_scale_and_their_words():
    tables = {name: RNG.random((3, 2)) for name in ("before", "after")} | {
        "end": np.array([[0.1, 1.0], [0, 0], [0, 0]])
    }
    figure = plots.row_map(tables, ["red", "square"], ["layer 0", "layer 1", "layer 2"], marked=[1], columns=2)
    shown = [panel for panel in figure.axes[:4] if panel.get_visible()]
    assert [panel.get_title("left") for panel in shown] == list(tables)
    assert {panel.images[0].norm.vmax for panel in shown} == {1.0}
    assert all(panel.get_ylim()[0] < panel.get_ylim()[1] for panel in shown)  # the deepest layer is on top
    assert {"square", "layer 2", "query token", "1.0"} <= set(words(figure).splitlines())


def test_a_formation_map_draws_layers_and_accuracy():
    panels = {name: (RNG.random((6, 4)), [0, 0.1, 0.5, 0.9]) for name in ("scenes", "video", "documents")}
    figure = plots.formation_map([0, 10, 100, 1000], panels, heading="H")
    lines = [line for panel in figure.axes for line in panel.lines if len(line.get_ydata()) == 4]
    assert len(lines) == 6 and all(list(line.get_ydata()) == [0, 0.1, 0.5, 0.9] for line in lines)
    assert {"scenes", "video", "layer", "1000", "H"} <= set(words(figure).splitlines())
    marked = plots.formation_map([0, 10, 100, 1000], panels, mark=(55, "harder pictures"))
    dashed = [line.get_xdata()[0] for panel in marked.axes for line in panel.lines if len(line.get_ydata()) == 2]
    assert dashed == [1.5] * 3 and "dashed, step 55: harder pictures" in words(marked)


def test_overlaps_above_chance_are_full_dots():
    found = {"shared": 0.5, "chance": 0.1, "matched": 0.2}
    groups = {"mini": {"a · b": {**found, "p": 0.01, "itself": 0.9}, "a · c": {**found, "p": 0.05}}}
    figure = plots.overlap_chart(groups, heading="H")
    dots = {dots.get_label(): dots for dots in figure.axes[0].collections}
    assert [len(dots[f"shared, p {sign} 0.05"].get_offsets()) for sign in "<≥"] == [1, 1]
    assert dots["shared, p < 0.05"].get_offsets()[0].tolist() == [0.5, 1]
    assert len(dots["the same ranking on other samples"].get_offsets()) == 1
    assert {"mini", "a · b", "a · c"} <= set(words(figure).splitlines())
    assert len(plots.overlap_chart({"m": {"a · b": {**found, "p": 0.01}}}).axes[0].collections) == 5


def test_causal_figures_write_what_they_are_given():
    def loss(value):
        return Estimate(value, value - 0.02, value + 0.02)

    row = {"null": [0.0, 0.1, 0.2], "core": loss(0.5), "next": loss(0.1), "lowest": loss(0.0), "full": 0.9}
    (panel,) = plots.null_chart({"mini-s": row, "bridge": row}, heading="H").axes
    assert [text.get_text() for text in panel.get_yticklabels()] == ["mini-s", "bridge"]
    assert [line.get_xdata()[0] for line in panel.lines].count(0.9) == 2  # down to chance, once a row

    found = {
        "doses": [0.05, 0.5],
        "curves": {"core": [0.4, 0.1], "reverse": [0.9, 0.3]},
        "draws": [[0.8, None], [0.6, None]],
        "levels": {"chance": 0.1},
    }
    (panel,) = plots.dose_chart({"scenes": found}).axes
    lines = {line.get_label(): line for line in panel.lines}
    np.testing.assert_allclose(lines["layer-matched, mean"].get_ydata(), [0.7])  # no disjoint control at 50 %
    np.testing.assert_allclose(lines["highest RAM first"].get_ydata(), [0.4, 0.1])

    lost = {"evidence → answer": PathCurve(logprob=(1.0, 2.0), low=(0.9, 1.9), high=(1.1, 2.1), accuracy=(0.1, 0.2))}
    panels = plots.path_chart({"scenes": ([0, 1], lost), "video": ([0, 1], lost)}, window=2).axes
    assert panels[1].get_xlabel() == "first of 2 layers" and len(panels) == 2

    joint = {"RAM": 3.0, "lift": 1.0}  # without an interval
    measures = {"alone": {"RAM": loss(0.2), "lift": loss(0.4)}, "joint": joint}
    panels = plots.prediction_chart(measures, marked=["RAM"]).axes
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["lift", "RAM"]  # the best on top

    table = np.array([[0.1, 0.9], [0.5, 0.0]])
    effect = Tables(value=table - 0.3, low=table - 0.4, high=table - 0.2)
    panels = plots.effect_scatter(table, {"alone": effect, "in company": effect}, named=1).axes
    assert [text.get_text() for text in panels[0].texts] == ["L0H1"] and panels[1].get_title(loc="left") == "in company"


def test_a_cliff_chart_orders_heads_and_rings_a_share():
    table = np.array([[0.1, 0.9], [0.5, 0.0]])
    curves = {"m": {"scenes": table, "video": table}, "n": {"scenes": table}}
    first, second = plots.cliff_chart(curves, marks={"m": {"scenes": 0.5, "video": None}}).axes
    np.testing.assert_allclose(first.lines[0].get_xydata(), [[0.25, 0.9], [0.5, 0.5], [0.75, 0.1], [1.0, 0.0]])
    rings = [part for part in first.collections if len(part.get_offsets())]
    np.testing.assert_allclose(rings[0].get_offsets(), [[0.5, 0.5]])
    assert len(rings) == 1 and not any(len(part.get_offsets()) for part in second.collections)


def test_acceleration_figures_write_what_they_are_given():
    one, all_ = plots.window_chart({"near": Window(2, 1), "far": None}, rows=4, block=2).axes
    assert one.images[0].get_array().tolist() == [[2, 1, 0, 0], [2, 2, 0, 0], [2, 2, 2, 1], [2, 1, 2, 2]]
    assert all_.images[0].get_array().tolist() == [[2, 1, 0, 0], [2, 2, 0, 0], [2, 2, 2, 1], [2, 2, 2, 2]]

    def level(value):
        return Accuracy(value, value - 0.1, value + 0.1)

    kinds = {name: [level(0.5), level(0.9)] for name in ("core", "group", "uniform", "oracle")}
    draws = {"layer-matched": [[0.1, None], [0.3, None]], "random": [[0.1, 0.2]]}
    found = {"doses": [0.05, 0.5], "base": level(0.95), "none": level(0.0), "draws": draws, **kinds}
    (panel,) = plots.hybrid_chart({"scenes": found}).axes
    lines = {line.get_label(): line for line in panel.lines}
    np.testing.assert_allclose(lines["layer-matched heads dense"].get_xydata(), [[0.05, 0.2]])
    np.testing.assert_allclose(lines["CoRe heads dense"].get_ydata(), [0.5, 0.9])

    def took(dense, hybrid, ideal=None):
        return replace(Compared.of({"dense": [dense], "hybrid": [hybrid]}), ideal=ideal)

    none = Sizes(None, None)
    rows = [SpeedAt(n, "fold", took(4, 2, 3), took(4, 3, 2), took(1, 1), none, none) for n in (512, 2048)]
    (panel,) = plots.speed_chart({"a layer": rows}).axes
    lines = {line.get_label(): line for line in panel.lines}
    np.testing.assert_allclose(lines["attention"].get_ydata(), [2, 2])
    np.testing.assert_allclose(lines["prefill, by counting"].get_ydata(), [2, 2])
    assert "first token" not in lines and [text.get_text() for text in panel.get_xticklabels()] == ["512", "2k"]


def test_needle_figures_write_what_they_are_given():
    def at(begins, dense, questions=4):
        return AtDepth(begins, begins + 0.5, questions, dense, 0.25, None, 0.0)

    trials = {
        "1k": SimpleNamespace(depths=(at(0.0, 1.0), at(0.5, 0.5))),
        "2k": SimpleNamespace(depths=(at(0.0, None, 0), at(0.5, 0.75))),
    }
    dense, core, matched = plots.depth_maps(trials).axes
    assert sorted(text.get_text() for text in dense.texts) == [
        "0.50",
        "0.75",
        "1.00",
    ]  # a cell without questions is blank
    assert [text.get_text() for text in core.texts] == ["0.25"] * 4 and not matched.texts
    assert [text.get_text() for text in dense.get_xticklabels()] == ["1k", "2k"]
    assert [text.get_text() for text in dense.get_yticklabels()] == ["0.0–0.5", "0.5–1.0"]
    other = SimpleNamespace(depths=(at(0.0, 1.0),))
    for wrong, message in (({}, "give a trial or more"), ({**trials, "4k": other}, "other depths")):
        with pytest.raises(BadInput, match=message):
            plots.depth_maps(wrong)
    with pytest.raises(BadInput, match="of dense, core, matched, none"):
        plots.depth_maps(trials, panels=("all",))

    (panel,) = plots.prompt_chart(
        [("page 1", 60), ("page 2", 40)], {"far": None, "near": Window(30, 5)}, evidence=1
    ).axes
    boxes = [(box.get_x(), box.get_width()) for box in panel.patches]
    assert boxes == [(0, 60), (60, 40), (0, 100), (0, 5), (70, 30)]
    with pytest.raises(BadInput, match="has 1 parts"):
        plots.prompt_chart([("page 1", 60)], {}, evidence=1)


def test_a_trade_chart_joins_the_doses_of_a_window():
    def point(width, dose):
        took = Compared.of({"dense": [2 - dose], "hybrid": [1.0]})
        ends, loss, cache = {"low": 0.1, "high": 0.9}, Estimate(0.0, 0.0, 0.0), Sizes(None, None)
        return Point(width, dose, HeadSet(), 0.5 + dose, **ends, loss=loss, attention=took, prefill=took, decode=took,
                     cache=cache)  # fmt: skip

    points = [point(width, dose) for width in (64, 8) for dose in (0.2, 0)]
    (panel,) = plots.tradeoff_chart({"scenes": (0.95, points)}).axes
    names = panel.get_legend_handles_labels()[1]
    doses = ["0% of the heads dense", "20% of the heads dense"]
    assert names == ["all dense", "window of 8", "window of 64", *doses]
    drawn = [(line.get_xydata().tolist(), line) for line in panel.lines]
    assert sum(points == [[2, 0.5], [1.8, 0.7]] for points, _ in drawn) == 2
    few, many = (line.get_markersize() for _, line in drawn if line.get_label() in doses)
    assert few < many
    dots = [(*points, line.get_markersize()) for points, line in drawn if line.get_marker() == "o" and points]
    assert dots == 2 * [([2, 0.5], few), ([1.8, 0.7], many)]


def test_a_cost_chart_shows_what_did_not_fit():
    plain, more = Spent(1.0, 1.0, 1.0, bytes=2**30), Spent(2.0, 2.0, 2.0, bytes=2**31)
    rows = [CostAt(1024, plain, plain, more), CostAt(2048, more, more, TooLarge(2**33))]
    seconds, memory = plots.cost_chart(rows).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in memory.lines}
    assert lines["attention written out, as published"] == [[1024, 2]] and lines["would need"] == [[2048, 8]]
    assert len(seconds.lines) == 3


def test_claims_by_size_show_every_model_and_domain():
    sized = [
        plots.Sized(domain, heads, Estimate(value, value - 0.1, value + 0.1))
        for heads in (48, 120)
        for domain, value in (("scenes", 0.6), ("video", 0.3))
    ]
    figure = plots.claims_by_size(
        {"moved": plots.Claimed(sized, 0.5, above=True), "half": plots.Claimed(sized[:2], 0.1, above=False)}, columns=2
    )
    text = words(figure)
    assert all(word in text for word in ("moved", "half", "48", "120", "scenes", "video", "heads of the model"))
    assert "documents" not in text
    panel = figure.axes[0]
    points = {tuple(np.round(line.get_ydata(), 2)) for line in panel.lines if line.get_marker() == "o"}
    assert points == {(0.6, 0.6), (0.3, 0.3)}


def test_a_transfer_is_three_tables():
    from corelib import atlas
    from corelib.core.values import AccuracyKept
    from corelib.experiments.transfer import Transfer, Transferred

    plain = atlas.redirection("mini-s", "scenes")
    kept = AccuracyKept(0.4, 0.3, 0.5, loss=Estimate(0.2, 0.1, 0.3))
    one = Transferred(plain.ranking, HeadSet("L0H0"), without=kept, alone=kept)
    base = Accuracy(0.8, 0.7, 0.9)
    tested = {
        name: Transfer(plain.model, plain.task, 0.95, base, base, {"scenes": one}, plain.software, 1.0)
        for name in ("scenes", "video")
    }
    figure = plots.transfer_chart(tested, {("scenes", "video"): plain})
    told = [[text.get_text() for text in panel.texts] for panel in figure.axes]
    assert told == [[f"{plain.core.moved.value:.2f}"], ["0.25", "0.25"], ["0.50", "0.50"]]  # of the accuracy of 0.8


def test_pointers_stand_where_they_are_right():
    found = {
        "mini-s · documents": atlas.locating("mini-s", "documents"),
        "mini-s · scenes": atlas.locating("mini-s", "scenes"),
    }
    (panel,) = plots.pointing_chart(found).axes
    names = [text.get_text() for text in panel.get_yticklabels()]
    assert names == list(found)
    lines = {line.get_label(): line.get_xdata()[0] for line in panel.lines if not line.get_label().startswith("_")}
    drawn = {bar.get_label(): bar.lines[0].get_xdata()[0] for bar in panel.containers}
    assert {**lines, **drawn}["CoRe heads"] == found["mini-s · documents"].core.point.value
    assert drawn["mean of all heads"] == found["mini-s · documents"].others["all heads"].point.value
    dots = sum(len(one.get_offsets()) for one in panel.collections if len(one.get_offsets()))
    assert dots >= sum(len(one.controls["matched"]) for one in found.values())


def test_what_was_located_is_drawn_on_its_page():
    sample = task("documents", pages=6).sample("test", seed=0, index=0)
    found = locate(load("mini-s"), sample.images, sample.question, atlas.cell("mini-s", "documents").scores().top(0.05))
    figure = plots.draw_located(found)
    titles = [panel.get_title(loc="left") for panel in figure.axes if panel.get_title(loc="left")]
    assert len(titles) == 4 and f"page {found.page + 1}: {found.place.shares[found.page]:.0%}" in titles
    assert figure.get_suptitle().endswith(found.answer)
