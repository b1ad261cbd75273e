"""What is timed: a trained model with the best heads of a ranking, or a published size with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from corelib.core.entries import check_whole
from corelib.core.errors import check_known
from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet, top_count
from corelib.core.memory import check_fits
from corelib.core.values import BenchFacts
from corelib.experiments.answer_sweep import check_model
from corelib.experiments.out_of_window import HybridAccuracy, accuracy_kept
from corelib.families.sizes import SIZES, build_size, image_inputs, weight_bytes
from corelib.models.vlm import VLM
from corelib.sparse import Window
from corelib.tasks import task


@dataclass(frozen=True)
class BenchModel:
    """A model, its dense heads, and what a results file says about it."""

    model: PreTrainedModel
    dense: HeadSet
    facts: BenchFacts
    pictures: Callable[[int], dict[str, Tensor]] | None = None  # inputs of about so many visual tokens
    accuracy: Callable[..., HybridAccuracy] | None = (
        None  # of trained weights, on other samples than those that ranked the heads
    )


def trained_model(vlm: VLM, scores: HeadScores, share: float, *, dtype: torch.dtype, device: str) -> BenchModel:
    """A model with its weights; the first heads of the ranking are dense."""
    check_model(vlm, scores)
    mine = vlm.facts
    facts = BenchFacts(
        mine.name, "trained", mine.num_layers, mine.num_layers, mine.num_heads, mine.num_kv_heads, sha256=mine.sha256
    )
    work = task(scores.task.domain, **(scores.task.difficulty or {}))

    def accuracy(dense: HeadSet, window: Window, *, samples: int) -> HybridAccuracy:
        return accuracy_kept(vlm, work.draw("test", samples=samples), dense, window)

    vlm.model.to(device, dtype)  # type: ignore[arg-type]  # transformers wraps Module.to without its self
    return BenchModel(vlm.model, scores.top(share), facts, accuracy=accuracy)


def published_size(
    name: str, share: float, *, layers: int | None = None, dtype: torch.dtype, device: str, seed: int = 0
) -> BenchModel:
    """The size of a real model, or its first `layers` decoder layers, with random weights; heads drawn at random are
    dense. Refused if it does not fit in memory."""
    size = SIZES[check_known("geometry", name, SIZES)]
    check_whole("seed", seed)
    needed = weight_bytes(name, layers, dtype)
    check_fits(f"the weights of {name}", needed, torch.device(device), f"take fewer layers (it has {size.layers})")
    model = build_size(name, layers=layers, dtype=dtype, device=device)
    measured, config = layers or size.layers, model.config.get_text_config()
    heads = config.num_attention_heads
    every = list(HeadSet.all(measured, heads))
    drawn = np.random.default_rng(seed).permutation(len(every))[: top_count(share, len(every))]
    facts = BenchFacts(name, "random", size.layers, measured, heads, config.num_key_value_heads, source=size.source)
    dense = HeadSet(every[place] for place in drawn)
    return BenchModel(model, dense, facts, partial(image_inputs, name, dtype=dtype, device=device))
