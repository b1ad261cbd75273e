"""What one head does: where it looks, what it writes, what goes wrong without it, and through whom it works.

    story = tell_story(vlm, draw, HeadSet("L24H4"), scores.top())
    story.looks["later answer tokens"]["first answer token"]     # 0.9: it reads what was written first
    story.repeats[2][0]                                          # without it, the third token repeats the first

Five questions, each asked with a program of the one attention function; heads are silenced, and outputs exchanged, at
the rows after the pictures:

    looks       of each kind of row, how much attention falls on each kind of key (QK)
    writes      direct logit attribution: what the head adds to the right token's logit (OV)
    without     the answer's tokens, one by one, with the head silent; and which other token of the answer is said then
    patched     the head's outputs come from another prompt, which differs in one word: is the answer that prompt's?
    stops       the retrieval of other heads without this one; and if their outputs are put back as they were, how much
                of the answers comes back (mediation)

Sources: activation patching as in Wang et al. (2022), arXiv:2211.00593; mediation as in Vig et al. (2020),
arXiv:2004.12265. The kinds of rows and keys are ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from corelib.analysis.stats import bootstrap_interval, estimate
from corelib.attention.call import AttentionCall
from corelib.attention.head_outputs import head_outputs
from corelib.attention.intervene import ablate
from corelib.attention.record import record, row_index
from corelib.core.errors import BadInput
from corelib.core.heads import Head, HeadSet
from corelib.core.results import software
from corelib.core.values import Accuracy
from corelib.experiments.answer_sweep import compute_dtype
from corelib.experiments.head_story_result import HeadStory, Restored
from corelib.experiments.patching import guesses, patched
from corelib.experiments.token_kinds import token_kinds
from corelib.metrics.logit_attribution import logit_attribution, word_direction
from corelib.metrics.ram import ram, reduce_rows
from corelib.models.batch import Batch
from corelib.models.head_writes import head_writes
from corelib.models.last_norm import LastNorm
from corelib.models.vlm import VLM
from corelib.replay.from_question import Replay, replay_from_question
from corelib.replay.layer import add_mlp
from corelib.replay.residual_cache import residual_cache
from corelib.tasks import Draw

Interval = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def tell_story(vlm: VLM, draw: Draw, head: HeadSet, core: HeadSet, *, kind: str | None = None) -> HeadStory:
    """What one `head` does on the samples of `draw` (of one `kind` of question, if it is named), and to the `core` of
    heads that retrieve.

    Raises: BadInput for another number of heads than one, or if no sample is of this kind.
    """
    began = time.perf_counter()
    if len(head) != 1:
        raise BadInput(f"{len(head)} heads: a story is of one head")
    samples = [one for one in draw if kind in (None, one.kind)]
    if not samples:
        raise BadInput(f"no sample is of the kind {kind!r}")
    batch = vlm.encode(samples)
    clusters = [one.cluster for one in samples]
    interval = partial(bootstrap_interval, clusters=clusters, seed=draw.seed)
    one = next(iter(head))
    answer = replay_from_question(vlm, batch)
    rows, real = row_index(batch.rows("answer"))
    targets = batch.tokens.gather(1, (rows + 1).clamp(max=batch.tokens.shape[1] - 1)).masked_fill(~real, -1).cpu()
    plain = guesses(answer) == targets
    with ablate(vlm.model, head, rows=batch.after_image):
        said = guesses(answer)
    before, after = (_retrieval(vlm, batch, answer, core, silent) for silent in (HeadSet(), head))
    return HeadStory(
        model=vlm.facts,
        task=draw.facts(counted=len(samples)),
        head=head,
        kind=kind,
        looks=_looks(vlm, batch, one),
        writes=_writes(vlm, batch, one),
        plain=_shares(plain, interval),
        without=_shares(said == targets, interval),
        repeats=_repeats(said, targets),
        stops={str(other): (before[other], after[other]) for other in core - head},
        restored=_restored(vlm, batch, answer, head, core - head, interval),
        patched=patched(vlm, samples, head),
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


@torch.no_grad()
def _looks(vlm: VLM, batch: Batch, head: Head) -> dict[str, dict[str, float]]:
    """Of each kind of row, the mean attention on each kind of key."""
    kinds = token_kinds(vlm, batch)
    rows = torch.stack([mask for name, mask in kinds.items() if name != "pictures"]).any(0) & batch.after_image

    def mine(call: AttentionCall, attention: Tensor) -> Tensor | None:
        return attention[:, head.index] if call.layer == head.layer else None

    with record(vlm.model, rows, reduce=mine) as recorded:
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    attention, (index, real) = recorded.kept[head.layer][0], row_index(rows)  # [batch, row, key]
    found: dict[str, dict[str, float]] = {}
    for name, of_row in kinds.items():
        chosen = of_row.gather(1, index) & real
        if not chosen.any():
            continue
        own = torch.nn.functional.one_hot(index, attention.shape[-1]).bool()
        shares = {"itself": float(attention[chosen][own[chosen]].mean())}
        for key, of_key in kinds.items():
            seen = of_key[:, None] & ~own
            shares[key] = float((attention * seen).sum(-1)[chosen].mean())
        found[name] = {key: round(share, 4) for key, share in shares.items() if share >= 0.005}
    return found


@torch.no_grad()
def _writes(vlm: VLM, batch: Batch, head: Head) -> tuple[tuple[float, int], ...]:
    """At each row that predicts a token of the answer: what the head adds to the right token's logit, above the mean of
    all tokens that are answers here; and its place among all heads, from 1."""
    kept = residual_cache(vlm, batch)
    rows, real = row_index(batch.rows("answer"))
    places = torch.arange(len(rows), device=rows.device)[:, None]
    norm = LastNorm.of(vlm)
    stream = add_mlp(kept.blocks[-1], kept.layers[-1].resid_mid[places, rows])
    if kept.layers[-1].between is not None:
        stream = stream + kept.layers[-1].between[places, rows]
    direction = word_direction(norm.unembedding, norm.gain, kept.targets, kept.targets[real].unique())
    found = []
    for layer, block in zip(kept.layers, kept.blocks, strict=True):
        z = layer.z[places, rows].transpose(1, 2)  # [batch, head, row, dim]
        found.append(logit_attribution(head_writes(block.self_attn.o_proj, z), norm.scale(stream), direction))
    mean = (torch.stack(found) * real[:, None]).sum(1) / real.sum(0)  # [layer, head, row]
    table = mean.flatten(0, 1)
    own = mean[head.layer, head.index]
    return tuple(
        (round(float(own[row]), 4), 1 + int((table[:, row] > own[row]).sum())) for row in range(table.shape[1])
    )


def _repeats(said: Int[Tensor, "sample row"], targets: Int[Tensor, "sample row"]) -> tuple[tuple[float, ...], ...]:
    """How often the token said at row i is the answer's token j."""
    same = (said[:, :, None] == targets[:, None]).double().mean(0)
    return tuple(tuple(round(float(share), 4) for share in row) for row in same)


def _shares(right: Bool[Tensor, "sample row"], interval: Interval) -> tuple[Accuracy, ...]:
    return tuple(Accuracy.of(estimate(column, interval)) for column in right.double().numpy().T)


@torch.no_grad()
def _retrieval(vlm: VLM, batch: Batch, answer: Replay, core: HeadSet, silent: HeadSet) -> Mapping[Head, float]:
    """The mean RAM of each head of `core`, while `silent` heads say nothing."""
    rows, evidence = batch.rows("answer"), batch.evidence

    def mass(call: AttentionCall, attention: Tensor) -> Tensor:
        return ram(attention, evidence)

    with ablate(vlm.model, silent, rows=batch.after_image), record(vlm.model, rows, reduce=mass) as recorded:
        answer()
    real = row_index(rows)[1]
    return {head: round(float(reduce_rows(recorded.kept[head.layer][0], real).mean(0)[head.index]), 4) for head in core}


@torch.no_grad()
def _restored(vlm: VLM, batch: Batch, answer: Replay, head: HeadSet, core: HeadSet, interval: Interval) -> Restored:
    """All tokens of the answer right: plain, without the head, and with the outputs of `core` put back as they were in
    the plain pass."""
    with head_outputs(vlm.model, {one.layer for one in core}) as before:
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    after = batch.after_image
    plain = answer().correct
    with ablate(vlm.model, head, rows=after):
        without = answer().correct
    with ablate(vlm.model, head, rows=after), ablate(vlm.model, core, replacement=before, rows=after):
        restored = answer().correct
    return Restored(*(Accuracy.of(estimate(one.double().numpy(), interval)) for one in (plain, without, restored)))
