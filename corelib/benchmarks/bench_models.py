"""What is timed: a trained model with the best heads of a ranking, or a published size with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from corelib.core.errors import check_known
from corelib.core.heads import HeadScores, HeadSet, top_count
from corelib.core.memory import check_fits
from corelib.experiments.answer_sweep import check_model
from corelib.experiments.out_of_window import accuracy_kept
from corelib.families.sizes import SIZES, build_size, image_inputs, weight_bytes
from corelib.models.vlm import VLM
from corelib.tasks import task


@dataclass(frozen=True)
class BenchModel:
    """A model, its dense heads, and what a results file says about it."""

    model: PreTrainedModel
    dense: HeadSet
    facts: dict
    pictures: Callable[[int], dict[str, Tensor]] | None = None  # inputs of about so many visual tokens
    accuracy: Callable[..., dict] | None = None  # of trained weights, on other samples than those that ranked the heads


def trained_model(vlm: VLM, scores: HeadScores, share: float, *, dtype: torch.dtype, device: str) -> BenchModel:
    """A model with its weights; the first heads of the ranking are dense."""
    check_model(vlm, scores)
    facts = {**vlm.facts, "weights": "trained", "measured layers": vlm.num_layers}
    work = task(scores.task["domain"], **scores.task.get("difficulty", {}))
    vlm.model.to(device, dtype)
    return BenchModel(vlm.model, scores.top(share), facts, accuracy=partial(accuracy_kept, vlm, work))


def published_size(
    name: str, share: float, *, layers: int | None = None, dtype: torch.dtype, device: str, seed: int = 0
) -> BenchModel:
    """The size of a real model, or its first `layers` decoder layers, with random weights; heads drawn at random are
    dense. Refused if it does not fit in memory."""
    size = SIZES[check_known("geometry", name, SIZES)]
    needed = weight_bytes(name, layers, dtype)
    check_fits(f"the weights of {name}", needed, torch.device(device), f"take fewer layers (it has {size.layers})")
    model = build_size(name, layers=layers, dtype=dtype, device=device)
    measured, heads = layers or size.layers, size.text["num_attention_heads"]
    every = list(HeadSet.all(measured, heads))
    drawn = np.random.default_rng(seed).permutation(len(every))[: top_count(share, len(every))]
    facts = {
        "name": name,
        "weights": "random",
        "source": size.source,
        "layers": size.layers,
        "measured layers": measured,
        "heads": heads,
        "kv_heads": size.text["num_key_value_heads"],
    }
    dense = HeadSet(every[place] for place in drawn)
    return BenchModel(model, dense, facts, partial(image_inputs, name, dtype=dtype, device=device))
