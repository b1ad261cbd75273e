"""Answer samples without some heads: many sets of heads, one task, one of several kinds of ablation.

    found = outcomes(load("mini-s"), task("scenes"), [HeadSet(), HeadSet("L4H0 L4H1")], samples=64)
    found.correct.float().mean(1)           # the accuracy under each set

Every batch of samples is stored as soon as all sets have run on it: a stopped run goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from corelib.attention.head_outputs import expand_means, head_outputs, mean_outputs, resampled
from corelib.attention.intervene import ablate, knockout
from corelib.core.errors import BadInput, UnsupportedArchitecture, check_known
from corelib.core.heads import HeadScores, HeadSet
from corelib.core.sample_store import collect
from corelib.models.answers import AnswerScores, stacked
from corelib.models.batch import POSITION_KINDS, Batch
from corelib.models.vlm import VLM
from corelib.replay.from_layer import replay_from_layer
from corelib.replay.from_question import replay_from_question, whole_pass
from corelib.replay.residual_cache import residual_cache
from corelib.replay.shared_prefix import share_prefix
from corelib.tasks import Sample, Task

MODES = ("zero", "mean", "resample", "knockout", "image_knockout")
REFERENCE = 64  # samples of `select`: what a mean output is a mean of


def answer_sweep(
    vlm: VLM,
    task: Task,
    sets: Sequence[HeadSet],
    *,
    mode: str = "zero",
    split: str = "test",
    seed: int = 0,
    samples: int = 512,
    questions: int = 1,
    batch_size: int = 16,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AnswerScores:
    """Answer `samples` samples under each of the `sets` (the empty set is the plain model).

    Several `questions` about each picture cost little more than one (`shared_prefix.py`), but are not independent:
    resample `clusters(samples, questions)` for an interval.

    `mode` says what their heads do: put out nothing (`zero`), their mean at such positions (`mean`, over samples of the
    split `select`), what they put out for another sample of the batch (`resample`); or, after the pictures, see
    nothing of the evidence (`knockout`) or of the pictures (`image_knockout`).
    """
    check_known("ablation mode", mode, MODES)
    if samples < 2 or batch_size < 2 or questions < 1:
        given = f"samples={samples}, batch={batch_size}, questions={questions}"
        raise BadInput(f"samples and batch must be 2 or more, questions 1 or more, got {given}")
    if samples % questions or samples == questions:
        raise BadInput(
            f"{samples} samples with {questions} questions about each picture: give a multiple of {questions}, for two "
            "pictures or more"
        )
    fingerprint = {
        "model": vlm.sha256,
        "precision": compute_dtype(vlm),
        "task": repr(task),
        "split": split,
        "seed": seed,
        "questions": questions,
        "mode": mode,
        "sets": [one.to_json() for one in sets],
    }
    under = _program(vlm, task, sets, mode, seed, questions)

    def answer(indices: list[int]) -> dict[str, torch.Tensor]:
        found = under(vlm.encode(samples_of(task, split, seed, indices, questions)))
        return {"correct": found.correct.T.contiguous(), "logprob": found.logprob.T.contiguous()}  # [sample, set]

    found = collect(answer, samples, lambda todo: _batches(todo, questions, batch_size), fingerprint, store, progress)
    return AnswerScores(found["correct"].T, found["logprob"].T)


def check_model(vlm: VLM, scores: HeadScores) -> None:
    """Refuse scores of another model."""
    theirs = scores.model
    if theirs["sha256"] != vlm.sha256:
        raise BadInput(
            f"the scores are of {theirs['name']} ({theirs['sha256'][:8]}), the model is {vlm.name} ({vlm.sha256[:8]}): "
            "profile this model first"
        )


def check_scores(vlm: VLM, scores: HeadScores, split: str, seed: int, same_samples: bool = False) -> None:
    """Refuse scores of another model, and a test on the samples that ranked the heads."""
    check_model(vlm, scores)
    if (scores.task["split"], scores.task["seed"]) == (split, seed) and not same_samples:
        raise BadInput(
            f"the heads were ranked on these samples ({split}, seed {seed}): test on another split, or say that you "
            "mean it (same_samples=True, --same-samples)"
        )


def compute_dtype(vlm: VLM) -> str:
    """What a model computes in: what autocast says, or else the type of its weights.

    >>> from corelib import load
    >>> compute_dtype(load("mini-s"))
    'float32'
    """
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else vlm.model.dtype
    return str(kind).removeprefix("torch.")


def clusters(samples: int, questions: int) -> list[int]:
    """The picture of every sample.

    >>> clusters(5, 2)
    [0, 0, 1, 1, 2]
    """
    return [index // questions for index in range(samples)]


def _batches(todo: Sequence[int], questions: int, batch_size: int) -> list[list[int]]:
    """Sample numbers in batches of whole pictures, about `batch` samples each; three pictures may always be one batch,
    so that none is alone, without another one to exchange with."""
    pictures: dict[int, list[int]] = {}
    for index in todo:
        pictures.setdefault(index // questions, []).append(index)
    most = max(3, batch_size // questions)
    parts = np.array_split(list(pictures), -(-len(pictures) // most)) if pictures else []
    return [[index for picture in part for index in pictures[picture]] for part in parts]


def samples_of(task: Task, split: str, seed: int, indices: Sequence[int], questions: int) -> list[Sample]:
    """The samples of these numbers, `questions` of them about each picture."""
    pictures = dict.fromkeys(index // questions for index in indices)
    about = {picture: task.questions_for(split, seed, picture, questions) for picture in pictures}
    return [about[index // questions][index % questions] for index in indices]


def _program(vlm: VLM, task: Task, sets: Sequence[HeadSet], mode: str, seed: int, questions: int):
    """A function of an encoded batch: its answers under each of the sets."""
    if mode == "zero":

        def replayed(encoded: Batch) -> AnswerScores:
            try:
                return replay_from_layer(share_prefix(residual_cache(vlm, encoded), encoded), sets)
            except UnsupportedArchitecture:
                return _one_by_one(partial(whole_pass, vlm, encoded), [ablate(vlm.model, one) for one in sets])

        return replayed
    layers = {head.layer for one in sets for head in one}
    means = _means(vlm, task, layers, seed) if mode == "mean" else None

    def programmed(encoded: Batch) -> AnswerScores:
        if mode in ("knockout", "image_knockout"):
            hidden = encoded.evidence if mode == "knockout" else encoded.source
            programs = [knockout(vlm.model, hidden, encoded.after_image, one) for one in sets]
            return _one_by_one(replay_from_question(vlm, encoded), programs)
        if mode == "mean":
            instead = expand_means(means, encoded.position_kinds)
            programs = [ablate(vlm.model, one, replacement=instead) for one in sets]
        else:
            with torch.no_grad(), head_outputs(vlm.model, layers) as found:
                vlm.model(**encoded.inputs, use_cache=False)
            order = range(questions, questions + len(encoded.samples))  # the same question of the next picture
            instead = resampled(found, [k % len(encoded.samples) for k in order]) if layers else None
            programs = [ablate(vlm.model, one, replacement=instead) for one in sets]
        return _one_by_one(partial(whole_pass, vlm, encoded), programs)

    return programmed


def _one_by_one(answer: Callable[[], AnswerScores], programs: Iterable[AbstractContextManager]) -> AnswerScores:
    found = []
    for program in programs:
        with program:
            found.append(answer())
    return stacked(found)


def _means(vlm: VLM, task: Task, layers: set[int], seed: int) -> dict[int, torch.Tensor]:
    def recorded():
        for drawn in task.batches("select", seed, REFERENCE, 16):
            encoded = vlm.encode(drawn)
            with torch.no_grad(), head_outputs(vlm.model, layers) as found:
                vlm.model(**encoded.inputs, use_cache=False)
            yield found, encoded.position_kinds

    return mean_outputs(recorded(), len(POSITION_KINDS)) if layers else {}
