"""The model card of a bundled model: every number in it is measured here, none is typed.

`measure_card` tests a finished model on pictures nobody trained or tuned on; `write_card` puts the result beside the
weights, with the README.md that `card_page.py` makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corelib.analysis.stats import bootstrap_interval
from corelib.bridge.text_eval import TEXTS, text_loss
from corelib.core.model_folder import LANGUAGE
from corelib.core.progress import Progress, silent
from corelib.core.results import read_json, software, write_json
from corelib.experiments.evidence import measure_accuracy, validate_evidence
from corelib.models.load import load
from corelib.models.vlm import VLM
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.tasks import TASKS, Draw, Setting, Task, task
from corelib.tasks.scenes import SINGLE_OBJECT
from corelib.training.card_page import render
from corelib.training.recipe import Recipe
from corelib.training.state import STATE, RunState

SCHEMA = "corelib/model-card/1"
BARS = {"scenes": 0.90, "documents": 0.95, "video": 0.95}  # set before the first training run
LONG_BARS = {"4k": 0.90, "7k": 0.80}  # of bridge-long, set before its training
TEST_SEED = 2026  # of the `test` split: no run was tuned on it
QUESTIONS, ROWS = 24, 10  # about each long row of pages or pictures; rows

Prompts = Mapping[str, Mapping[str, Mapping[str, Setting]]]  # about so many tokens → domain: difficulty


def measure_card(
    folder: str | Path,
    run: str | Path,
    *,
    samples: int = 1024,
    prompts: Prompts | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Accuracy and evidence validity of the model in `folder`, and the facts of the training run in `run`, as JSON.
    Accuracy on long `prompts`, too, where the model was trained to read them.

    Raises: BadInput if the folder has no recipe or holds no model, BadResults if `run` is not a training run.
    """
    recipe = Recipe.load(Path(folder) / "recipe.toml")
    vlm = load(folder)
    tests: dict[str, dict[str, dict[str, Any]]] = {}
    pretrained = recipe.model_kind == "bridge"  # and so large that half precision saves much time
    with torch.autocast("cpu", torch.bfloat16, enabled=pretrained):
        for number, name in enumerate(TASKS):
            found = validate_evidence(vlm, _drawn(task(name), samples))
            tests[name] = {condition: asdict(one) for condition, one in found.items()}
            progress(number + 1, len(TASKS) + 1)
        tests["single digit"] = {"base": asdict(measure_accuracy(vlm, _drawn(SINGLE_OBJECT, samples)))}
        progress(len(TASKS) + 1, len(TASKS) + 1)
        lengths = {name: measure_lengths(vlm, by_domain) for name, by_domain in (prompts or {}).items()}
    state = RunState.load(Path(run) / STATE)
    return {
        "schema": SCHEMA,
        "model": {
            "name": vlm.name,
            "sha256": vlm.sha256,
            "layers": vlm.num_layers,
            "heads": vlm.num_heads,
            "kv_heads": vlm.num_kv_heads,
            "class": type(vlm.model).__name__,
            "parameters": sum(p.numel() for p in vlm.model.parameters()),
        },
        "recipe": recipe.as_dict(),
        "training": {
            "steps": state.step,
            "planned": recipe.steps,
            "hours": round(state.seconds / 3600, 2),
            "machine": state.machine,
        },
        "test": {"split": "test", "seed": TEST_SEED, "autocast": "bfloat16" if pretrained else None, "results": tests},
        **({"language": measure_language(vlm, samples)} if pretrained else {}),
        **({"lengths": {"questions": QUESTIONS, "rows": ROWS, "bars": LONG_BARS, **lengths}} if lengths else {}),
        **({"study": dict(recipe.study)} if recipe.study else {}),
        "bars": {name: {"bar": bar, "met": tests[name]["base"]["accuracy"] >= bar} for name, bar in BARS.items()},
        "software": software(),
    }


def _drawn(work: Task, samples: int) -> Draw:
    return work.draw("test", seed=TEST_SEED, samples=samples)


def measure_lengths(vlm: VLM, by_domain: Mapping[str, Mapping[str, Setting]]) -> dict[str, dict[str, float]]:
    """Accuracy on long prompts, many questions behind each row of pages or pictures, by domain.

    The 95 % interval is a bootstrap over rows: questions about one row are not independent.
    """
    found = {}
    for domain, difficulty in by_domain.items():
        draw = task(domain, **difficulty).draw("test", seed=TEST_SEED, samples=QUESTIONS * ROWS, questions=QUESTIONS)
        marks, tokens = [], []
        for indices in draw.batches(QUESTIONS):  # one row at a time: each holds its pictures once a question
            row = vlm.encode(draw.take(indices))
            marks.append(replay_from_prefix(vlm, row)().correct.numpy())
            tokens.append(row.real.sum(1).double().mean().item())
        right = np.concatenate(marks).astype(float)
        low, high = bootstrap_interval(right, clusters=draw.clusters, seed=TEST_SEED)
        numbers = {"accuracy": right.mean(), "low": low, "high": high}
        found[domain] = {"tokens": round(np.mean(tokens)), **{name: float(one) for name, one in numbers.items()}}
    return found


def measure_language(vlm: VLM, samples: int) -> dict[str, Any]:
    """What learning to see has done to the language model: its loss on ordinary text (nats a token), and how well it
    finds things in a text (on so many samples), before and after."""
    before = load(LANGUAGE)
    loss = {name: round(text_loss(one.model, one.tokenizer), 4) for name, one in (("before", before), ("after", vlm))}
    found = {
        f"{name} {when}": asdict(measure_accuracy(one, _drawn(task(name), samples)))
        for when, one in (("before", before), ("after", vlm))
        for name in ("needle", "recital")
    }
    return {"texts": len(TEXTS), "loss": loss, **found}


def write_card(folder: str | Path, card: Mapping[str, Any]) -> None:
    """Put a card beside the weights: `card.json`, and `README.md` made of it. Raises: CannotWrite."""
    folder = Path(folder)
    write_json(folder / "card.json", card)
    (folder / "README.md").write_text(render(card), encoding="utf-8")


def read_card(folder: str | Path) -> dict[str, Any]:
    """The card that `write_card` put there. Raises: BadResults if there is none."""
    return read_json(Path(folder) / "card.json", SCHEMA)
