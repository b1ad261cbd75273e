"""What should the heads see that are not dense? The same dense heads, and the rest limited in different ways.

    found = compare_rests(load("bridge-long"), draw, scores.top(), width=256)
    {way.name: way.kept.loss for way in found.ways}

`window` is what `sparsify` does: the tokens before the first picture, and the last ones. It is taken apart (only rows
of the pictures short-sighted, only those of the question), given more keys (all text, the first token of each picture),
and compared with keys that are chosen by content: blocks of highest pooled score, and the best keys, at about as many
keys a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import software
from corelib.core.sample_store import collect
from corelib.core.values import WindowFacts
from corelib.experiments.answer_sweep import check_pictures, compute_dtype
from corelib.experiments.out_of_window import PairedAccuracy, out_of_reach, sinks_and_length
from corelib.experiments.rest_result import OnPage, Rests, Way
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.sparse import Window, sparsify
from corelib.sparse.blocks import Blocks, blocks_for, choose_blocks
from corelib.sparse.masked import masked_window
from corelib.sparse.oracle_topk import oracle_topk
from corelib.sparse.window import width_for
from corelib.tasks import Draw

BLOCK = 32  # keys

Opened = Callable[[Batch], AbstractContextManager[object]]


def compare_rests(
    vlm: VLM,
    draw: Draw,
    dense: HeadSet,
    *,
    width: int,
    level: float = 0.95,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> Rests:
    """Answer the same questions with the `dense` heads dense and the rest limited in each way. Matrices of rows · keys
    are made, so prompts of up to about 2,000 tokens are meant. Differences to all dense are paired; intervals resample
    pictures. Our definition.

    Raises:
        BadInput: There is one question about each picture, no dense head, or the window reaches the evidence of nearly
            all samples.
    """
    began = time.perf_counter()
    check_pictures(draw)
    if draw.questions < 2:
        raise BadInput("one question about each picture: draw several (questions=8), which read the picture together")
    if not draw[0].evidence:
        raise BadInput(f"{draw.task.name} has no evidence in pictures: choose a task that has")
    if not dense:
        raise BadInput("no dense head: give those that should read everything")
    sinks, length = sinks_and_length(vlm, draw)
    window, model = Window(width, sinks), vlm.model
    seen = window.mean_seen(length)
    blocks = blocks_for(seen, length, size=BLOCK, sinks=sinks)
    most = width_for(seen, 0, length)
    one = vlm.encode(draw.take([0]))
    ways: dict[str, tuple[float, Opened]] = {
        "window": (seen, lambda batch: sparsify(model, dense, window)),
        "no head dense": (seen, lambda batch: sparsify(model, HeadSet(), window)),
        "window on rows of pictures": (
            seen,
            lambda batch: masked_window(model, dense, window, rows=(0, first_row(batch))),
        ),
        "window on rows of the question": (
            (length + 1) / 2,  # nearly all rows see everything
            lambda batch: masked_window(model, dense, window, rows=(first_row(batch), None)),
        ),
        "no sinks": (seen - sinks, lambda batch: sparsify(model, dense, Window(width, 0))),
        "and all text": (
            mean_with(window, names_of(one)),
            lambda batch: masked_window(model, dense, window, also=names_of(batch)),
        ),
        "and first tokens": (
            mean_with(window, firsts_of(one)),
            lambda batch: masked_window(model, dense, window, also=firsts_of(batch)),
        ),
        "blocks": (blocks.mean_seen(length), lambda batch: choose_blocks(model, dense, blocks)),
        "own blocks alone": (
            Blocks(0, BLOCK, sinks).mean_seen(length),
            lambda batch: choose_blocks(model, dense, Blocks(0, BLOCK, sinks)),
        ),
        "best keys": (seen, lambda batch: oracle_topk(model, most, dense)),
    }
    fingerprint = {"model": vlm.sha256, "precision": compute_dtype(vlm), "window": [width, sinks], **draw.fingerprint}
    fingerprint |= {"dense": dense.to_json(), "ways": list(ways), "blocks": [blocks.count, BLOCK], "most": most}

    def answer(indices: list[int]) -> dict[str, Tensor]:
        batch = vlm.encode(draw.take(indices))
        ask, counted = replay_from_prefix(vlm, batch), out_of_reach(batch, window)
        right = [ask().correct]
        for _, opened in ways.values():
            with opened(batch):
                right.append(ask().correct)
        page = torch.tensor([sample.evidence[0].image for sample in batch.samples])
        return {"right": torch.stack(right, 1), "counted": counted, "page": page}

    found = collect(answer, draw.samples, partial(draw.batches, draw.questions), fingerprint, store, progress)
    paired = PairedAccuracy.of(draw, found["right"], found["counted"], width=width, level=level)
    page, right = found["page"][found["counted"]].numpy(), paired.right
    return Rests(
        model=vlm.facts,
        task=draw.facts(counted=paired.counted),
        dense=dense,
        window=WindowFacts(width, sinks, length),
        block=BLOCK,
        level=level,
        base=paired.stated(0),
        ways=tuple(Way(name, keys, paired.against(k)) for k, (name, (keys, _)) in enumerate(ways.items(), start=1)),
        pages=tuple(
            OnPage(int(one) + 1, int((page == one).sum()), *(float(right[k][page == one].mean()) for k in (0, 1)))
            for one in sorted(set(page.tolist()))
        ),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def mean_with(window: Window, also: Bool[Tensor, " key"]) -> float:
    """How many keys a row sees on average, if it sees those of `also` that stand before it, too; over as many rows as
    there are keys.

    >>> mean_with(Window(1, sinks=0), torch.tensor([True, False, False]))  # 1, 2 and 2
    1.6666666666666667
    """
    places = torch.arange(len(also))
    seen = window.seen(places[:, None], places) | (also & (places <= places[:, None]))
    return float(seen.sum(1).double().mean())


def first_row(batch: Batch) -> int:
    """Where the question begins, from the first token of the sequence: the pictures of all samples are the same."""
    behind = batch.after_image.int().argmax(1) - batch.real.int().argmax(1)
    return int(behind[0])


def names_of(batch: Batch) -> Bool[Tensor, " key"]:
    """The tokens before the question that are text, such as the names of pages."""
    start, past = int(batch.real[0].int().argmax()), int(batch.after_image[0].int().argmax())
    return ~batch.source[0, start:past]


def firsts_of(batch: Batch) -> Bool[Tensor, " key"]:
    """The first token of each picture."""
    start, past = int(batch.real[0].int().argmax()), int(batch.after_image[0].int().argmax())
    visual = batch.source[0, start:past]
    return visual & ~torch.nn.functional.pad(visual, (1, -1))
