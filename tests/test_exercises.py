"""The exercises of the book: the stub fails, the solution in the notebook passes, and typical wrong answers fail."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from corelib.exercises.verdict import Verdict, compare

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.stem[:2].isdigit()]
CHECKED = [path for path in CHAPTERS if path.stem[:2] != "12"]  # it needs a hub
IMPORTS = """
import numpy as np, torch
from itertools import combinations
from scipy.stats import rankdata, spearmanr
from corelib import *
from corelib import atlas, plots
from corelib.core import model_folder
from corelib.experiments.formation import Formation, turning_points
from corelib.metrics import METRICS, PRIMARY, Metric, mass
DOMAINS = ("scenes", "documents", "video")
"""
BEFORE = {  # what the notebook has made by then
    0: "vlm = load('mini-s')",
    1: """
from corelib.core.errors import BadRegion
from corelib.families.regions import tokens_of_box
vlm = load('mini-s')
""",
    2: "vlm, untrained = load('mini-s'), load('mini-s', untrained=True)",
    3: """
from corelib.analysis.concentration import gini
from corelib.experiments.reading import read_heads
untrained = load('mini-s', untrained=True)
""",
    4: """
MODELS = ("mini-s", "mini-s-seed1", "mini-s-seed2", "mini-m", "bridge")
cells = {model: {domain: atlas.cell(model, domain) for domain in DOMAINS} for model in MODELS}
scores = {model: {domain: cell.scores() for domain, cell in mine.items()} for model, mine in cells.items()}
twins = MODELS[:3]
""",
    5: """
SEEDS = ("mini-s", "mini-s-seed1", "mini-s-seed2")
formations = {name: Formation.load(model_folder.bundled_folder(name)) for name in SEEDS}
ROWS = {"question rows": Metric("raw", "question", "max"), "answer rows": Metric("raw", "answer", "mean")}
first = formations["mini-s"]
def since(formation): return [step - formation.steps[0] for step in formation.steps]
def half(values): return int(((values - values[0]) / (values.amax() - values[0]) >= 0.5).nonzero()[0])
""",
    6: """
stored = {
    "text, before": atlas.cell("smollm2", "recital").scores(),
    "text": atlas.cell("bridge", "recital").scores(),
    "scenes": atlas.cell("bridge", "scenes").scores(),
}
""",
    7: """
from corelib.attention.head_outputs import head_outputs
from corelib.experiments.one_word import one_word_pairs
small = load("mini-s")
ablations = {("bridge", "documents"): atlas.ablation("bridge", "documents")}
""",
    8: """
from corelib.experiments.rivals import Asked, rival_pairs
vlm = load("bridge")
core = atlas.cell("bridge", "scenes").scores().top()
asked = Asked.of(vlm, rival_pairs(task("scenes").questions_for("validate", 3, 0, 4))[:1])
batch, plain = asked.batch, vlm.answer(asked.batch)
moved = plain
found = {("bridge", "scenes"): atlas.redirection("bridge", "scenes")}
""",
    9: """
MODELS = ("bridge", "mini-m", "mini-s", "mini-s-seed1", "mini-s-seed2")
effects = {
    split: {(m, d): atlas.effects(m, f"{d}-{split}") for m in MODELS for d in DOMAINS} for split in ("validate", "test")
}
shared = [n for n, o in METRICS.items() if all(o.key in f.agreement for f in effects["validate"].values())]
fooled = {("bridge", "scenes"): atlas.decoys("bridge", "scenes")}
""",
    10: """
from corelib.experiments.out_of_window import out_of_reach
LONG = "mini-s-long"
small, core = load(LONG), atlas.cell(LONG, "scenes").scores().top(0.10)
batch = small.encode(task("scenes").draw("test", samples=128, seed=2))
""",
    11: 'vlm = load("bridge"); found = {("bridge", "scenes"): atlas.locating("bridge", "scenes")}',
}
WRONG: dict[str, dict[str, str]] = {  # exercise → the mistake, and the code that makes it
    "0.1": {
        "pastes before it crops": """
def swap_values(image, first, second):
    changed = image.copy()
    for here, there in ((first, second), (second, first)):
        changed.paste(changed.crop((there.x0, there.y0, there.x1, there.y1)), (here.x0, here.y0))
    return changed""",
        "swaps a part": """
def swap_values(image, first, second):
    changed = image.copy()
    changed.paste(image.crop((first.x0, first.y0, first.x1, first.y1)), (second.x0, second.y0))
    return changed""",
    },
    "0.2": {
        "one difficulty": "measured = dict.fromkeys((4, 12, 24), measured[12])",
        "per cent": "measured = {k: 100 * v for k, v in measured.items()}",
    },
    "0.3": {
        "one in the number of answers": "def constant_accuracy(answers): return 1 / len(set(answers))",
        "the first answer": "def constant_accuracy(answers): return answers.count(answers[0]) / len(answers)",
    },
    "0.4": {
        "1.96 standard errors": """
def wilson_by_hand(k, n):
    p = k / n
    wide = 1.96 * (p * (1 - p) / n) ** 0.5
    return p - wide, p + wide""",
        "68 per cent": """
def wilson_by_hand(k, n, z=1.0):
    p, s = k / n, 1 + z**2 / n
    c, h = (p + z**2 / (2 * n)) / s, z / s * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    return c - h, c + h""",
    },
    "0.5": {
        "one picture": "def visual_tokens(width, height, images): return (width // 32) * (height // 32)",
        "patches of 16": "def visual_tokens(width, height, images): return images * (width // 16) * (height // 16)",
    },
    "1.1": {
        "hides the evidence": "def hide_anchors(batch): return batch.anchors | batch.evidence",
        "hides all": "def hide_anchors(batch): return batch.visual & ~batch.evidence",
    },
    "1.2": {
        "one threshold": "counts = dict.fromkeys(counts, counts[0.0])",
        "swapped": "counts = {0.0: counts[0.2], 0.2: counts[0.0]}",
    },
    "1.3": {
        "sees the future": "def causal_attention(q, k, s): return (q @ k.T * s).softmax(-1)",
        "masks behind the softmax": """
def causal_attention(q, k, s):
    return (q @ k.T * s).softmax(-1).tril()""",
    },
    "1.4": {
        "modulo": "def kv_head_of(head, heads, kv_heads): return head % kv_heads",
        "every head its own": "def kv_head_of(head, heads, kv_heads): return head",
    },
    "1.5": {
        "before W_O": "def head_writes(z, w_o): return z",
        "one block for all": "def head_writes(z, w_o): return z @ w_o[:, : z.shape[1]].T",
    },
    "2.1": {
        "raw": "def my_lift(a, evidence, visual): return a[..., evidence].sum(-1)",
        "all tokens": "def my_lift(a, evidence, visual): return a[..., evidence].sum(-1) / evidence.float().mean()",
    },
    "2.2": {"the evidence": 'head = "L4H1"', "the first head": 'head = "L0H0"'},
    "2.3": {
        "sees the future": "def uniform_ram(evidence, row): return evidence.float().mean().item()",
        "without itself": "def uniform_ram(evidence, row): return evidence[:row].float().mean().item()",
    },
    "2.4": {
        "where samples lie": "def interval(v, rng): return np.quantile(v, 0.025), np.quantile(v, 0.975)",
        "half of the samples": """
def interval(v, rng):
    means = [rng.choice(v, 8).mean() for _ in range(1000)]
    return np.quantile(means, 0.025), np.quantile(means, 0.975)""",
    },
    "2.5": {"too small": "box = Box(0, 0, 64, 64)", "outside": "box = Box(500, 0, 600, 100)"},
    "3.1": {
        "from the lowest": """
def heads_for(table, wanted):
    values = np.sort(np.ravel(table))
    return int((values.cumsum() / values.sum() < wanted).sum()) + 1""",
        "one too few": """
def heads_for(table, wanted):
    values = np.sort(np.ravel(table))[::-1]
    return int((values.cumsum() / values.sum() < wanted).sum())""",
    },
    "3.2": {
        "unsorted": """
def gini_by_hand(values):
    held = np.concatenate([[0], values[::-1].cumsum()]) / values.sum()
    return 1 - 2 * ((held[1:] + held[:-1]) / 2).mean()""",
        "one trapezoid side": """
def gini_by_hand(values):
    return 1 - 2 * (np.sort(values).cumsum() / values.sum()).mean()""",
    },
    "3.3": {"all": "shared = 14", "none": "shared = 0"},
    "3.4": {"equal heads": "share = 3 / 48", "all": "share = 1.0"},
    "3.5": {
        "the trained model": "value = gini(np.asarray(atlas.cell('mini-s', 'scenes').scores()))",
        "nothing": "value = 0.0",
    },
    "4.1": {
        "sizes": "shared_by = {key: len(scores[key[0]]['scenes'].top(key[1])) for key in shared_by}",
        "one threshold": "shared_by = {key: shared_by[key[0], 0.05] for key in shared_by}",
    },
    "4.2": {"none": "shared_by = dict.fromkeys(shared_by, 0)", "all": "shared_by = dict.fromkeys(shared_by, 3)"},
    "4.3": {"over all heads": "by_chance = 14 * 14 / 270", "what is shared": "by_chance = 8"},
    "4.4": {"all": "count = 9", "those with a shared head": "count = 1"},
    "4.5": {
        "over all": "def expected_shared(one, two, heads): return sum(one) * sum(two) / (heads * len(one))",
        "not divided": "def expected_shared(one, two, heads): return sum(a * b for a, b in zip(one, two))",
    },
    "5.1": {
        "log-spaced": "def steepest(steps, accuracy): return int(np.argmax(np.diff(accuracy))) + 1",
        "the step before": "def steepest(steps, accuracy): return int(np.argmax(np.diff(accuracy) / np.diff(steps)))",
    },
    "5.2": {"leads at the end": 'head = "L2H4"', "the last": 'head = "L5H7"'},
    "5.3": {
        "positions": "steps = {n: turning_points(f.accuracy('scenes'))['at'] for n, f in formations.items()}",
        "the last steps": "steps = {n: since(f)[-1] for n, f in formations.items()}",
    },
    "5.4": {
        "the end": "share = float(recital[-1, layer, index] / recital[0, layer, index])",
        "the value": "share = float(recital[:, layer, index].min())",
    },
    "5.5": {"all": "count = 9", "a guess": "count = 5"},
    "6.1": {
        "from all layers": "def shared_by_chance(one, two, rng): return len(one) * len(two) / 270",
        "what is shared": "def shared_by_chance(one, two, rng): return len(one & two)",
    },
    "6.2": {
        "text after": "shared_by = {f: len(stored['text'].top(f) & stored['scenes'].top(f)) for f in shared_by}",
        "one threshold": "shared_by = dict.fromkeys(shared_by, shared_by[0.05])",
    },
    "6.3": {
        "not divided": "def adapted(weight, a, b, alpha): return weight + alpha * b @ a",
        "without the weight": "def adapted(weight, a, b, alpha): return alpha / len(a) * b @ a",
    },
    "6.4": {"the weight": "numbers = 576 * 576", "one matrix": "numbers = 16 * 576"},
    "6.5": {"the layer alone": "p = 1 / 36", "all heads": "p = 1 / 36315"},
    "7.1": {
        "any layer": """
def matched(tested, layers, heads, rng):
    free = sorted(HeadSet.all(layers, heads) - tested)
    return HeadSet(free[int(k)] for k in rng.choice(len(free), len(tested), replace=False))""",
        "with tested heads": """
def matched(tested, layers, heads, rng):
    found = tested.by_layer().items()
    return HeadSet((one, int(h)) for one, mine in found for h in rng.choice(heads, len(mine), replace=False))""",
    },
    "7.2": {
        "the smallest": "heads = [f'L{p // 8}H{p % 8}' for p in np.argsort(lost.ravel())[:3]]",
        "of scenes": "heads = ['L0H4', 'L0H7', 'L2H3']",
    },
    "7.3": {"the colour": 'carrier = "L0H4"', "another": 'carrier = "L0H1"'},
    "7.4": {
        "one number": "def zero_heads(mixed, heads, num_heads):\n    mixed[:, heads] = 0\n    return mixed",
        "all": "def zero_heads(mixed, heads, num_heads): return mixed * 0",
    },
    "7.5": {"points in per cent": "drop = 100 * drop", "nothing": "drop = 0.0"},
    "8.1": {"some": "others = HeadSet('L0H0')", "the same": "others = core"},
    "8.2": {"ablate": 'intervention = "ablate"', "both": 'intervention = "both"'},
    "8.3": {
        "the sum": """
def redirected(attention, values, evidence, target):
    paid = attention[evidence].sum()
    return attention @ values - attention[evidence] @ values[evidence] + paid * values[target].sum(0)""",
        "sees both": """
def redirected(attention, values, evidence, target):
    return attention @ values + attention[evidence].sum() * values[target].mean(0)""",
    },
    "8.4": {"all": "count = 14", "too few": "count = 1"},
    "8.5": {"of six": "p = 1 / 6", "zero": "p = 0.0"},
    "9.1": {
        "RAM": "winners = dict.fromkeys(winners, 'RAM')",
        "contrast": "winners = dict.fromkeys(winners, 'contrast')",
    },
    "9.2": {
        "all heads": "correlation = spearmanr(ram_of_all, subsets).statistic",
        "the others": "correlation = spearmanr(ram_of_all[~some], subsets[~some]).statistic",
    },
    "9.3": {
        "Pearson": "def rank_correlation(one, two): return np.corrcoef(one, two)[0, 1]",
        "turned": "def rank_correlation(one, two): return -np.corrcoef(rankdata(one), rankdata(two))[0, 1]",
    },
    "9.4": {"RAM": "names = ['RAM']", "nothing": "names = []"},
    "9.5": {
        "no baseline": "def effect(lost, holds): return lost[holds].mean()",
        "turned": "def effect(lost, holds): return lost[~holds].mean() - lost[holds].mean()",
    },
    "10.1": {
        "nothing": "accuracy = dict.fromkeys(accuracy, 0.0)",
        "one width": "accuracy = dict.fromkeys(accuracy, accuracy[2])",
    },
    "10.2": {"the norm": 'which = "output norm"', "neither": 'which = "none"'},
    "10.3": {
        "no sinks": """
def seen(tokens, width, sinks):
    rows, keys = torch.arange(tokens)[:, None], torch.arange(tokens)
    return (keys <= rows) & (keys > rows - width)""",
        "one too wide": """
def seen(tokens, width, sinks):
    rows, keys = torch.arange(tokens)[:, None], torch.arange(tokens)
    return (keys <= rows) & ((keys < sinks) | (keys >= rows - width))""",
    },
    "10.4": {"all of it": "def speedup(f, a): return a", "the product": "def speedup(f, a): return f * a"},
    "10.5": {
        "query heads": "times = 90 * 4096 / (14 * 4096 + 76 * (6 + 256 - 1))",
        "no dense head": "times = 4096 / (6 + 256 - 1)",
    },
    "11.1": {"all": "count = 14", "none": "count = 0"},
    "11.2": {"too few": "unlabelled = [(0, 0)]", "one head often": "unlabelled = [(0, 0)] * 14"},
    "11.3": {
        "ties do not count": "def auroc(r, w): return (r[:, None] > w).mean()",
        "turned": "def auroc(r, w): return ((r[:, None] < w) + 0.5 * (r[:, None] == w)).mean()",
    },
    "11.4": {
        "over the first": """
def overlap(one, two):
    wide, high = min(one.x1, two.x1) - max(one.x0, two.x0), min(one.y1, two.y1) - max(one.y0, two.y0)
    return max(0, wide) * max(0, high) / ((one.x1 - one.x0) * (one.y1 - one.y0))""",
        "negative": """
def overlap(one, two):
    wide, high = min(one.x1, two.x1) - max(one.x0, two.x0), min(one.y1, two.y1) - max(one.y0, two.y0)
    area = (one.x1 - one.x0) * (one.y1 - one.y0) + (two.x1 - two.x0) * (two.y1 - two.y0)
    return wide * high / (area - wide * high)""",
    },
    "11.5": {"chance of a digit": "share = 0.1", "always": "share = 1.0"},
}


@cache
def exercises() -> dict[str, tuple[str, str]]:
    """Every checked exercise: the code of its cell, and its solution."""
    found = {}
    for path in CHECKED:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for cell, code, after in zip(cells, cells[1:], cells[2:], strict=False):
            title = re.search(r"### Exercise ([\d.]+): [^#]*\Z", "".join(cell["source"]))
            if title and code["cell_type"] == "code":
                solution = re.search(r"Solution</summary>\s*```python\n(.*?)```", "".join(after["source"]), re.DOTALL)
                assert solution, f"{title[1]} has no solution"
                found[title[1]] = ("".join(code["source"]), solution[1])
    return found


@cache
def made_before(chapter: int) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(IMPORTS + BEFORE[chapter], names)
    return names


def checked(code: str, names: dict[str, Any]) -> Verdict:
    """Run a cell; its last line is the check."""
    body = ast.parse(code).body
    last = body.pop()
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    verdict = eval(compile(ast.Expression(last.value), "check", "eval"), names)
    assert isinstance(verdict, Verdict)
    return verdict


def test_every_chapter_has_five_or_more():
    by_chapter: dict[int, int] = {}
    for name in exercises():
        by_chapter[int(name.split(".")[0])] = by_chapter.get(int(name.split(".")[0]), 0) + 1
    assert set(by_chapter) == set(BEFORE) and min(by_chapter.values()) >= 5
    assert set(WRONG) == set(exercises())


@pytest.mark.parametrize("name", list(WRONG))
def test_the_stub_and_wrong_answers_fail_and_the_solution_passes(name):
    cell, solution = exercises()[name]
    names = dict(made_before(int(name.split(".")[0])))
    assert not checked(cell, names).passed, "the stub passes"
    check = cell.strip().splitlines()[-1]
    verdict = checked(f"{solution}\n{check}", names)
    assert verdict.passed, verdict
    assert len(WRONG[name]) >= 2
    for mistake, code in WRONG[name].items():
        assert not checked(f"{code}\n{check}", dict(names)).passed, f"{mistake} passes"


def test_a_verdict_says_why():
    assert repr(Verdict(True)) == "right" and repr(Verdict(False, "no")) == "not yet: no"
    assert compare(7, {"a": 1.0}, 0.1, {}).said == "give one number for each of ['a']"
    assert compare({"a": "x"}, {"a": 1.0}, 0.1, {}).said == "some numbers differ"
    assert compare({"a": 2}, {"a": 1.0}, 0.1, {"doubled": {"a": 2.0}}).said == "doubled"
