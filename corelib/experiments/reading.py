"""Read the heads of one batch: every quantity × query rows × reduction, from one forward pass.

Attention is reduced as soon as it is computed and never kept; what is kept is one number a
(sample, quantity, layer, head). Null-calibrated RAM needs a second pass, with a question that asks for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from corelib.attention.decoder import has_windows
from corelib.attention.interface import AttentionCall
from corelib.attention.record import record, row_index
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import ROWS
from corelib.experiments.reach import watch_reach
from corelib.metrics.baselines import copy_paste
from corelib.metrics.catalogue import DERIVED, NEED_DISTRACTORS, PARTS, QUANTITIES, LayerReading
from corelib.metrics.localization import selected, spatial_entropy
from corelib.metrics.ram import chance, null_calibrated, reduce_rows, visible_keys
from corelib.metrics.variants import VARIANTS, Regions
from corelib.models.batch import Batch
from corelib.models.head_writes import head_writes
from corelib.models.vlm import VLM
from corelib.tasks import Sample

BASIC_QUANTITIES = (*VARIANTS, "visual")
ALL_QUANTITIES = (*QUANTITIES, *DERIVED)
READERS = {**QUANTITIES, **PARTS}
REDUCED: tuple[Literal["mean", "max"], ...] = ("mean", "max")  # over the rows of a sample
NEEDS = {"copy_paste": "copy_hit", "null_calibrated": "raw", "localization": "visual"}  # what they are derived from


@dataclass(frozen=True, repr=False)
class Measurement:
    """Per-sample numbers of one model on one task, in the order of the samples' indices.

    `scores["answer/mean/raw"]` is [sample, layer, head]; `chance["answer/mean"]` is [sample]; `kind` counts in the
    task's kinds of question. `reach` is known of models with sliding windows.
    """

    scores: dict[str, Float[Tensor, "sample layer head"]]
    chance: dict[str, Float[Tensor, " sample"]]
    correct: Bool[Tensor, " sample"]
    logprob: Float[Tensor, " sample"]
    kind: Int[Tensor, " sample"] | None = None
    reach: Bool[Tensor, "sample layer"] | None = None  # do all answer rows see all evidence? None: there is no window
    seconds: float = field(default=0.0, compare=False)

    def __repr__(self) -> str:
        return f"Measurement({len(self.correct)} samples, accuracy {self.accuracy:.2f}, {len(self.scores)} scores)"

    def tensors(self) -> dict[str, Tensor]:
        """All of it as tensors by name, [sample, …]: what a store keeps."""
        scores = {f"scores/{key}": value for key, value in self.scores.items()}
        by_chance = {f"chance/{key}": value for key, value in self.chance.items()}
        some = {name: value for name in ("kind", "reach") if (value := getattr(self, name)) is not None}
        return {**scores, **by_chance, **some, "correct": self.correct, "logprob": self.logprob}

    @classmethod
    def of(cls, tensors: dict[str, Tensor], seconds: float = 0.0) -> Measurement:
        """The way back from `tensors()`."""
        scores, by_chance = (
            {key.removeprefix(kind): value for key, value in tensors.items() if key.startswith(kind)}
            for kind in ("scores/", "chance/")
        )
        some = {name: tensors.get(name) for name in ("kind", "reach")}
        return cls(scores, by_chance, tensors["correct"], tensors["logprob"], **some, seconds=seconds)

    def of_kind(self, kind: int) -> Measurement:
        """The part that asks one kind of question."""
        mine = self.kind == kind
        return self.of({name: value[mine] for name, value in self.tensors().items()}, self.seconds)

    @property
    def accuracy(self) -> float:
        return self.correct.float().mean().item()


def lacking(sample: Sample) -> dict[str, str]:
    """The quantities that a task with such samples does not have, and why."""
    lacks = (
        {} if sample.distractors else dict.fromkeys(NEED_DISTRACTORS, "its questions have no rivals of the evidence")
    )
    if not sample.images:
        lacks["localization"] = "it has no picture"
    if "?" not in sample.question:
        lacks["null_calibrated"] = "its questions have no question mark that could stand for a word"
    return lacks


def readable(sample: Sample, quantities: Sequence[str] = ALL_QUANTITIES) -> tuple[str, ...]:
    """Of `quantities`, those that a task with such samples has."""
    lacks = lacking(sample)
    return tuple(name for name in quantities if check_known("quantity", name, ALL_QUANTITIES) not in lacks)


def read_heads(vlm: VLM, batch: Batch, quantities: Sequence[str] = BASIC_QUANTITIES) -> Measurement:
    """Every one of the `quantities` that can be read, for every choice of query rows and both reductions.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> found = read_heads(vlm, vlm.encode(task("scenes").draw("select", samples=2)))
    >>> found.scores["answer/mean/raw"].shape  # [sample, layer, head]
    torch.Size([2, 6, 8])
    """
    asked = readable(batch.samples[0], quantities)
    direct = list(dict.fromkeys(NEEDS.get(name, name) for name in asked))
    wanted = {name: batch.rows(name) for name in ROWS}
    union = torch.stack(list(wanted.values())).any(0)
    index, real = row_index(union)
    regions = Regions(batch.evidence, batch.source, batch.distractors)
    last = (index == wanted["last"].int().argmax(1, keepdim=True)).int().argmax(1)  # its place among the rows
    following = batch.tokens.roll(-1, 1)  # the token that each position should write
    shown = batch.visual[:, None] | (batch.tokens[:, None] == following.gather(1, index)[..., None])
    spreads: list[np.ndarray] = []  # of each layer, [batch, head]

    def reduce(call: AttentionCall, attention: Tensor) -> Float[Tensor, "batch head row quantity"]:
        if "localization" in asked:
            spreads.append(_spread(attention[torch.arange(len(last)), :, last], batch))
        write = partial(_write, call)
        seen = LayerReading(attention, regions, index, batch.real, call.value, write, shown)
        return torch.stack([READERS[name](seen).float() for name in direct], -1)

    watched = watch_reach(vlm.model, batch) if has_windows(vlm.model) else nullcontext()
    with watched as reached, record(vlm.model, union, reduce=reduce) as recorded:
        answers = vlm.answer(batch)
    values = recorded.stack().permute(4, 1, 0, 2, 3)  # [quantity, batch, layer, head, row]
    rows = dict(zip(direct, values, strict=True))
    if "copy_paste" in asked:
        assert answers.next_tokens is not None  # `answer` gives them
        produced = (answers.next_tokens == following).gather(1, index)
        rows["copy_paste"] = copy_paste(rows["copy_hit"], produced[:, None])
    if "null_calibrated" in asked:
        rows["null_calibrated"] = null_calibrated(rows["raw"], _null(vlm, batch, union))
    expected = chance(batch.evidence, visible_keys(batch.real, index))  # [batch, row]
    scores, by_chance = {}, {}
    for name, mask in wanted.items():
        mine = mask.gather(1, index) & real
        for how in REDUCED:
            for quantity in (one for one in asked if one in rows):
                samples, layers, heads, count = rows[quantity].shape
                flat = reduce_rows(rows[quantity].reshape(samples, layers * heads, count), mine, how)
                scores[f"{name}/{how}/{quantity}"] = flat.reshape(samples, layers, heads)
            by_chance[f"{name}/{how}"] = reduce_rows(expected[:, None], mine, how)[:, 0]
    if "localization" in asked:
        visual = rows["visual"][torch.arange(len(last)), :, :, last]  # [batch, layer, head]
        chosen = selected(visual.numpy(force=True), np.stack(spreads, 1))
        scores["last/mean/localization"] = torch.from_numpy(chosen).float()
    reach = None if reached is None else torch.stack(reached, 1)
    return Measurement(scores, by_chance, answers.correct, answers.logprob, reach=reach)


def _write(call: AttentionCall, mixed: Float[Tensor, "batch head row dim"]) -> Float[Tensor, "batch head row width"]:
    """What each head of a layer writes, in the precision of the model."""
    return head_writes(call.module.get_submodule("o_proj"), mixed.to(call.value.dtype))


def _spread(row: Float[Tensor, "batch head key"], batch: Batch) -> Float[np.ndarray, "batch head"]:
    """The spatial entropy of one row of attention over the pictures."""
    found = []
    for mine, views in zip(row.cpu(), batch.views, strict=True):
        maps = [mine[:, one.positions].unflatten(1, (one.grid.rows, one.grid.columns)) for one in views]
        found.append(spatial_entropy([one.numpy() for one in maps]))
    return np.stack(found)


@torch.no_grad()
def _null(vlm: VLM, batch: Batch, rows: Bool[Tensor, "batch token"]) -> Float[Tensor, "batch layer head row"]:
    """RAM of the same rows when the question asks for nothing."""
    regions = Regions(batch.evidence, batch.source)

    def reduce(call: AttentionCall, attention: Tensor) -> Float[Tensor, "batch head row"]:
        return VARIANTS["raw"](attention, regions)

    with record(vlm.model, rows, reduce=reduce) as recorded:
        vlm.model(**vlm.null_question(batch).inputs, use_cache=False, logits_to_keep=1)
    return recorded.stack().transpose(0, 1)


def check_quantities(sample: Sample, quantities: Sequence[str]) -> None:
    """Refuse quantities that such samples do not have.

    Raises: BadInput, with the reason for each of them.
    """
    lacks = lacking(sample)
    missing = [name for name in sorted(quantities) if check_known("quantity", name, ALL_QUANTITIES) in lacks]
    if missing:
        reasons = "; ".join(dict.fromkeys(lacks[name] for name in missing))
        raise BadInput(f"{sample.domain} cannot give {', '.join(missing)}: {reasons}")
