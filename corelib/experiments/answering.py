"""Answer samples without some heads: many sets of heads, one task, one of several kinds of ablation.

    found = outcomes(load("mini-s"), task("scenes"), [HeadSet(), HeadSet("L4H0 L4H1")], samples=64)
    found.correct.float().mean(1)           # the accuracy under each set

Every batch of samples is stored as soon as all sets have run on it: a stopped run goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from corelib.encoded import KINDS, Encoded
from corelib.errors import BadInput, UnsupportedArchitecture, check_known
from corelib.heads import HeadSet
from corelib.intervene import ablate, blind
from corelib.outputs import exchanged, head_outputs, mean_outputs, spread
from corelib.resume import Outcomes, resume, trace
from corelib.store import SampleStore
from corelib.tasks import Task
from corelib.vlm import VLM

MODES = ("zero", "mean", "resample", "blind", "unseeing")
REFERENCE = 64  # samples of `select`: what a mean output is a mean of


def outcomes(
    vlm: VLM,
    work: Task,
    sets: Sequence[HeadSet],
    *,
    mode: str = "zero",
    split: str = "test",
    seed: int = 0,
    samples: int = 512,
    batch: int = 16,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcomes:
    """Answer `samples` samples under each of the `sets` (the empty set is the plain model).

    `mode` says what their heads do: put out nothing (`zero`), their mean at such positions (`mean`, over samples of the
    split `select`), what they put out for another sample of the batch (`resample`); or, after the pictures, see
    nothing of the evidence (`blind`) or of the pictures (`unseeing`).
    """
    check_known("ablation mode", mode, MODES)
    if samples < 2 or batch < 2:
        raise BadInput(f"samples and batch must be 2 or more, got samples={samples}, batch={batch}")
    fingerprint = {"model": vlm.sha256, "task": repr(work), "split": split, "seed": seed, "mode": mode}
    fingerprint["sets"] = [one.to_json() for one in sets]
    kept = SampleStore(store, fingerprint) if store is not None else None
    done = kept.done if kept else set()
    todo = [index for index in range(samples) if index not in done]
    under = _program(vlm, work, sets, mode, seed)
    parts: list[dict[str, torch.Tensor]] = []
    progress(len(done), samples)
    for start in range(0, len(todo), batch):
        indices = todo[start : start + batch]
        encoded = vlm.encode([work.sample(split, seed, index) for index in indices])
        correct, logprob = under(encoded)
        found = {"correct": correct.T.contiguous(), "logprob": logprob.T.contiguous()}  # [sample, set]
        if kept:
            kept.add(indices, found)
        else:
            parts.append(found)
        progress(len(done) + start + len(indices), samples)
    names = ("correct", "logprob")
    whole = kept.load() if kept else {name: torch.cat([part[name] for part in parts]) for name in names}
    return Outcomes(*(whole[name][:samples].T for name in names))


def _program(vlm: VLM, work: Task, sets: Sequence[HeadSet], mode: str, seed: int):
    """A function of an encoded batch: `correct` and `logprob`, [set, sample]."""
    if mode == "zero":

        def resumed(encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
            try:
                found = resume(trace(vlm, encoded), sets)
            except UnsupportedArchitecture:
                return _one_by_one(vlm, encoded, [ablate(vlm.model, one) for one in sets])
            return found.correct, found.logprob

        return resumed
    layers = {head.layer for one in sets for head in one}
    means = _means(vlm, work, layers, seed) if mode == "mean" else None

    def whole(encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
        if mode in ("blind", "unseeing"):
            hidden = encoded.evidence if mode == "blind" else encoded.source
            programs = [blind(vlm.model, hidden, encoded.after_image, one) for one in sets]
        elif mode == "mean":
            instead = spread(means, encoded.kinds)
            programs = [ablate(vlm.model, one, instead=instead) for one in sets]
        else:
            with torch.no_grad(), head_outputs(vlm.model, layers) as found:
                vlm.model(**encoded.inputs, use_cache=False)
            instead = exchanged(found) if layers else None
            programs = [ablate(vlm.model, one, instead=instead) for one in sets]
        return _one_by_one(vlm, encoded, programs)

    return whole


def _one_by_one(vlm: VLM, encoded: Encoded, programs: list) -> tuple[torch.Tensor, torch.Tensor]:
    correct, logprob = [], []
    for program in programs:
        with program:
            answers = vlm.answer(encoded)
        correct.append(answers.correct)
        logprob.append(answers.logprob)
    return torch.stack(correct).cpu(), torch.stack(logprob).cpu()


def _means(vlm: VLM, work: Task, layers: set[int], seed: int) -> dict[int, torch.Tensor]:
    def recorded():
        for drawn in work.batches("select", seed, REFERENCE, 16):
            encoded = vlm.encode(drawn)
            with torch.no_grad(), head_outputs(vlm.model, layers) as found:
                vlm.model(**encoded.inputs, use_cache=False)
            yield found, encoded.kinds

    return mean_outputs(recorded(), len(KINDS)) if layers else {}
