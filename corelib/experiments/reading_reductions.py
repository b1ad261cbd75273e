"""Read RAM in several ways where answers have several tokens::

    mean                the mean over the answer's rows: RAM as this book defines it
    max                 the largest of the answer's rows
    own part            each of the answer's rows against the tokens that touch its part of the evidence, then the mean
    last                the prompt's last row alone
    question            the mean over the question's rows
    object or answer    the largest of the answer's rows and of the last word of the question
    question − null     the mean over the question's rows, minus the same under a null question

A head that fetches one of three digits is capped at 1/3 by the mean. `object or answer` reads the rows that redirection
of single rows had found to carry the answer. Where an answer is one token, the first four are the same. The last one is
that of MMRetHeads, arXiv 2605.27243, and QRHead, arXiv 2506.09944.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from corelib.attention.interface import AttentionCall
from corelib.attention.record import record, row_index
from corelib.core.heads import ROWS
from corelib.experiments.answer_parts import answer_parts
from corelib.metrics.ram import mass, null_calibrated, reduce_rows
from corelib.models.batch import Batch
from corelib.models.vlm import VLM

WAYS = ("mean", "max", "own part", "last", "question", "object or answer", "question − null")
MEAN = WAYS[0]


@torch.no_grad()
def read_reductions(vlm: VLM, batch: Batch) -> dict[str, Float[Tensor, "sample layer head"]]:
    """Every sample's RAM, read in every way.

    Raises: BadInput if the questions cannot be neutral (`VLM.null_question`), BadRegion if a sample has no evidence.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> found = read_reductions(vlm, vlm.encode(task("documents").samples("validate", 0, 2)))
    >>> found["max"].shape, bool((found["max"] >= found["mean"]).all())
    (torch.Size([2, 6, 8]), True)
    """
    parts, _ = answer_parts(batch, shared=True)
    regions = torch.cat([batch.evidence[:, None], parts], 1)
    marked = {**{name: batch.rows(name) for name in ROWS}, "object or answer": batch.rows("answer") | _object(batch)}
    union = torch.stack(list(marked.values())).any(0)
    index, real = row_index(union)
    raw, *each = _masses(vlm, batch, regions, union).unbind(-1)
    (null,) = _masses(vlm, vlm.null_question(batch), regions[:, :1], union).unbind(-1)
    number = (index - batch.rows("last").int().argmax(1, keepdim=True)).clamp(0, parts.shape[1] - 1)
    own = torch.zeros_like(raw)
    for part, masses in enumerate(each):
        own = torch.where((number == part)[:, None], masses, own)

    def reduced(table: Tensor, name: str, how: str = "mean") -> Tensor:
        mine = marked[name].gather(1, index) & real
        layers = [reduce_rows(layer, mine, "max" if how == "max" else "mean") for layer in table]
        return torch.stack(layers, 1).cpu()

    return {
        "mean": reduced(raw, "answer"),
        "max": reduced(raw, "answer", "max"),
        "own part": reduced(own, "answer"),
        "last": reduced(raw, "last"),
        "question": reduced(raw, "question"),
        "object or answer": reduced(raw, "object or answer", "max"),
        "question − null": reduced(null_calibrated(raw, null), "question"),
    }


def _object(batch: Batch) -> Bool[Tensor, "sample token"]:
    """The last word of each question: the token before its question mark."""
    question = batch.rows("question")
    place = torch.arange(question.shape[1], device=question.device)
    return place == torch.where(question, place, 0).amax(1, keepdim=True) - 1


def _masses(
    vlm: VLM, batch: Batch, regions: Bool[Tensor, "sample region token"], union: Bool[Tensor, "sample token"]
) -> Float[Tensor, "layer sample head row region"]:
    """How much of the attention of each marked row falls on each region."""

    def reduce(call: AttentionCall, attention: Tensor) -> Tensor:
        return torch.stack([mass(attention, region.to(attention.device)) for region in regions.unbind(1)], -1)

    with record(vlm.model, union, reduce=reduce) as recorded:
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    return recorded.stack()
