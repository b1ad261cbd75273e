"""Answer samples without some heads: many sets of heads, one task, one of several kinds of ablation.

    draw = task("scenes").draw("test", samples=64)
    found = answer_sweep(load("mini-s"), draw, [HeadSet(), HeadSet("L4H0 L4H1")])
    found[1].accuracy                       # under the second set

Every batch of samples is stored as soon as all sets have run on it: a stopped run goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corelib.attention.head_outputs import HeadOutputs, expand_means, head_outputs, mean_outputs, resampled
from corelib.attention.intervene import ablate, knockout
from corelib.core.entries import check_whole
from corelib.core.errors import BadInput, UnsupportedArchitecture, check_known
from corelib.core.head_scores import HeadScores
from corelib.core.heads import HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.sample_store import collect
from corelib.models.answers import AnswerScores, stacked
from corelib.models.batch import POSITION_KINDS, Batch
from corelib.models.devices import execution_device
from corelib.models.vlm import VLM
from corelib.replay.from_layer import replay_from_layer
from corelib.replay.from_question import replay_from_question, whole_pass
from corelib.replay.residual_cache import residual_cache
from corelib.replay.shared_prefix import share_prefix
from corelib.tasks import Draw
from corelib.tasks.draw import TOGETHER

MODES = ("zero", "mean", "resample", "knockout", "image_knockout")
REFERENCE = 64  # samples of `select` at most: what a mean output is a mean of

Answering = Callable[[Batch], AnswerScores]  # a batch → its answers under each set
Resampling = Callable[..., tuple[np.ndarray, np.ndarray]]  # `bootstrap_interval`, with a draw's clusters and seed


def answer_sweep(
    vlm: VLM,
    draw: Draw,
    sets: Sequence[HeadSet],
    *,
    mode: str = "zero",
    batch_size: int = 16,
    store: str | Path | None = None,
    progress: Progress = silent,
) -> AnswerScores:
    """Answer the samples of `draw` under each of the `sets` (the empty set is the plain model): [set, sample].

    Several questions about each picture cost little more than one (`shared_prefix.py`), but are not independent:
    resample `draw.clusters` for an interval.

    `mode` says what their heads do: put out nothing (`zero`), their mean at such positions (`mean`, over samples of the
    split `select`), what they put out for another sample of the batch (`resample`); or, after the pictures, see
    nothing of the evidence (`knockout`) or of the pictures (`image_knockout`).

    Raises: BadInput for a batch below 1, a set with a head that is not there, or `resample` with one picture;
    UnknownName for another mode.

    >>> from corelib import load, task
    >>> draw = task("scenes").draw("test", samples=2)
    >>> answer_sweep(load("mini-s"), draw, [HeadSet(), HeadSet("L4H0")]).correct.shape
    torch.Size([2, 2])
    """
    check_known("ablation mode", mode, MODES)
    check_whole("batch_size", batch_size, 1)
    if draw.pictures < 2 and mode == "resample":
        raise BadInput(f"{draw.pictures} picture: resample needs two or more, to exchange outputs between them")
    fingerprint = {
        "model": vlm.sha256,
        "precision": compute_dtype(vlm),
        **draw.fingerprint,
        "mode": mode,
        "sets": [one.to_json() for one in sets],
    }
    under = _answering(vlm, draw, sets, mode, batch_size)

    def answer(indices: list[int]) -> dict[str, Tensor]:
        found = under(vlm.encode(draw.take(indices)))
        return {"correct": found.correct.T.contiguous(), "logprob": found.logprob.T.contiguous()}  # [sample, set]

    batches = partial(draw.batches, batch_size, together=TOGETHER)
    found = collect(answer, draw.samples, batches, fingerprint, store, progress)
    return AnswerScores(found["correct"].T, found["logprob"].T)


def check_pictures(draw: Draw) -> None:
    """Refuse a draw of one picture: intervals resample pictures.

    Raises: BadInput if there is only one.
    """
    if draw.pictures < 2:
        raise BadInput(f"{draw.pictures} picture: an interval needs two or more; ask for more samples")


def check_model(vlm: VLM, scores: HeadScores) -> None:
    """Refuse scores of another model.

    Raises: BadInput if names or weights differ.
    """
    theirs = scores.model
    if theirs.sha256 != vlm.sha256:
        raise BadInput(
            f"the scores are of {theirs.name} ({theirs.sha256[:8]}), the model is {vlm.name} ({vlm.sha256[:8]}): "
            "score the heads of this model first"
        )


def check_scores(vlm: VLM, scores: HeadScores, draw: Draw, same_samples: bool = False) -> None:
    """Refuse scores of another model, and a test on the samples that ranked the heads.

    Raises: BadInput for both.
    """
    check_model(vlm, scores)
    shared = scores.task.split == draw.split and (scores.task.seed == draw.seed or draw.task.finite)
    seen = set(scores.task.pictures or ()).intersection(draw.facts().pictures or ())
    if seen and not shared and not same_samples:
        raise BadInput(
            f"{len(seen)} of these pictures ranked the heads: a line that joins pictures has moved them to another "
            "split. Rank the heads again, or say that you mean it (same_samples=True, --same-samples)"
        )
    if shared and not same_samples:
        raise BadInput(
            f"the heads were ranked on these samples ({draw.split}, seed {draw.seed}): test on another split, or say "
            "that you mean it (same_samples=True, --same-samples)"
        )


def compute_dtype(vlm: VLM) -> str:
    """What a model computes in: what autocast on its device says, or else the type of its weights.

    >>> from corelib import load
    >>> compute_dtype(load("mini-s"))
    'float32'
    """
    device = execution_device(vlm.model.get_input_embeddings()).type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else vlm.model.dtype
    return str(kind).removeprefix("torch.")


def _answering(vlm: VLM, draw: Draw, sets: Sequence[HeadSet], mode: str, batch_size: int) -> Answering:
    """How a batch is answered under each of the sets."""
    layers = {head.layer for one in sets for head in one}
    if mode == "zero":
        return partial(_zeroed, vlm, sets)
    if mode == "mean":
        return partial(_averaged, vlm, sets, _means(vlm, draw, layers, batch_size))
    if mode == "resample":
        return partial(_exchanged, vlm, sets, layers, draw.questions)
    return partial(_knocked_out, vlm, sets, mode)


def _zeroed(vlm: VLM, sets: Sequence[HeadSet], batch: Batch) -> AnswerScores:
    try:
        return replay_from_layer(share_prefix(residual_cache(vlm, batch), batch), sets)
    except UnsupportedArchitecture:
        return _one_by_one(partial(whole_pass, vlm, batch), [ablate(vlm.model, one) for one in sets])


def _averaged(vlm: VLM, sets: Sequence[HeadSet], means: dict[int, Tensor], batch: Batch) -> AnswerScores:
    outputs = expand_means(means, batch.position_kinds)
    return _one_by_one(partial(whole_pass, vlm, batch), [ablate(vlm.model, one, replacement=outputs) for one in sets])


def _exchanged(vlm: VLM, sets: Sequence[HeadSet], layers: set[int], questions: int, batch: Batch) -> AnswerScores:
    with torch.no_grad(), head_outputs(vlm.model, layers) as found:
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    count = len(batch.samples)
    order = [(k + questions) % count for k in range(count)]  # the same question of the next picture
    outputs = resampled(found, order) if layers else None
    return _one_by_one(partial(whole_pass, vlm, batch), [ablate(vlm.model, one, replacement=outputs) for one in sets])


def _knocked_out(vlm: VLM, sets: Sequence[HeadSet], mode: str, batch: Batch) -> AnswerScores:
    hidden = batch.evidence if mode == "knockout" else batch.source
    programs = [knockout(vlm.model, hidden, batch.after_image, one) for one in sets]
    return _one_by_one(replay_from_question(vlm, batch), programs)


def _one_by_one(answer: Callable[[], AnswerScores], programs: Iterable[AbstractContextManager[object]]) -> AnswerScores:
    found = []
    for program in programs:
        with program:
            found.append(answer())
    return stacked(found)


def _means(vlm: VLM, draw: Draw, layers: set[int], batch_size: int) -> dict[int, Tensor]:
    """The mean outputs of all heads of `layers`, by kind of position, over pictures of the split `select`."""
    count = draw.task.available("select", REFERENCE)
    if count < 1:
        raise BadInput(f"{draw.task.name} has no picture in select: mode 'mean' takes its means there")
    reference = draw.task.draw("select", samples=count, seed=draw.seed)

    def recorded() -> Iterator[tuple[HeadOutputs, Tensor]]:
        for indices in reference.batches(batch_size):
            batch = vlm.encode(reference.take(indices))
            with torch.no_grad(), head_outputs(vlm.model, layers) as found:
                vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
            yield found, batch.position_kinds

    return mean_outputs(recorded(), len(POSITION_KINDS)) if layers else {}
