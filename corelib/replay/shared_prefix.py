"""Questions about one picture share its prefix: the picture is read once, and the questions stand behind it apart.

A sweep over heads asks every question under hundreds of sets of heads, and most of a sequence is the picture. The plain
pass that `replay_from_layer` starts from can be folded, so that the tokens before the question are there once
a picture:

    before:  ▦▦▦▦ digit on red square ? 7          after:  ▦▦▦▦ digit on red square ? 7 digit on blue star ? 3
             ▦▦▦▦ digit on blue star ? 3                                               └ does not see the other one

No question sees another, and each keeps the positions it had. So the numbers stay what they were, but for rounding.
Prefix sharing is what servers of language models do ("RadixAttention", Zheng et al. 2024, arXiv:2312.07104).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from corelib.core.errors import BadInput
from corelib.models.batch import Batch
from corelib.replay.layer import LayerState, map_tensors
from corelib.replay.residual_cache import ResidualCache

Part = tuple[int, int, int]  # (sample, first, past): some of its positions


def share_prefix(kept: ResidualCache, batch: Batch) -> ResidualCache:
    """A kept pass of the same samples with one sequence a picture (`Sample.cluster`), instead of one a sample.

    Args:
        kept: What `residual_cache(vlm, batch)` returned.
        batch: The samples, in the same order; those about one picture need not stand together.

    Returns:
        The pass with its sequences folded, each tensor on the device that it was on; `kept` itself if there is nothing
        to share. `sequence` and `rows` say where each sample now is.

    Raises:
        BadInput: The batch is another one, samples of one cluster do not begin with the same tokens, or the model was
            given an attention mask that is not boolean.

    >>> from corelib import load, task
    >>> from corelib.replay.residual_cache import residual_cache
    >>> vlm = load("mini-s")
    >>> batch = vlm.encode(task("scenes").questions_for("test", 0, 0, 3))
    >>> folded = share_prefix(residual_cache(vlm, batch), batch)
    >>> len(folded.resid_pre), folded.sequence.tolist()
    (1, [0, 0, 0])
    """
    if len(batch.samples) != len(kept.rows):
        raise BadInput(f"the trace is of {len(kept.rows)} samples, not of these {len(batch.samples)}")
    clusters = [sample.cluster for sample in batch.samples]
    names = list(dict.fromkeys(clusters))
    if len(names) == len(clusters):
        return kept
    length, samples = batch.tokens.shape[1], len(clusters)
    begins = length - batch.lengths.sum(1).cpu()  # where the question begins,
    moved = torch.zeros_like(begins)  # and where it begins in its sequence
    padding = length - batch.real.sum(1).cpu()
    parts: list[list[Part]] = []  # of each sequence
    for name in names:
        mine = [number for number, cluster in enumerate(clusters) if cluster == name]
        donor = min(mine, key=lambda number: int(padding[number]))  # of the prefix: its places reach furthest
        parts.append([(donor, int(padding[donor]), int(begins[donor]))])
        for number in mine:
            if not _alike(batch, parts[-1][0], (number, int(padding[number]), int(begins[number]))):
                raise BadInput(f"samples of {name} do not begin alike: one picture has one prefix")
            moved[number] = sum(past - first for _, first, past in parts[-1])
            parts[-1].append((number, int(begins[number]), length))
    source, place, block = _layout(parts)
    counted = place - padding[source] + padding[source[:, :1]]  # the place, had all as much padding as the donor

    def gather(value: Tensor) -> Tensor:
        """[sample, position, …] → [sequence, position, …]."""
        return value[source, place] if value.shape[0] > 1 else value[0, counted]

    def fold(value: Tensor) -> Tensor:  # what has a row for every position
        own = value.ndim > 1 and value.shape[0] in (1, samples) and value.shape[1] == length
        return gather(value) if own else value

    masks: dict[int, Tensor] = {}  # layers of one kind share a mask

    def folded(layer: LayerState) -> LayerState:
        mask = layer.arguments["attention_mask"]
        if id(mask) not in masks:
            masks[id(mask)] = _mask(mask, source, place, block, padding)
        arguments = {key: map_tensors(value, fold) for key, value in layer.arguments.items()}
        return LayerState(
            resid_mid=gather(layer.resid_mid),
            z=gather(layer.z),
            keys=gather(layer.keys),
            values=gather(layer.values),
            arguments={**arguments, "attention_mask": masks[id(mask)]},
            between=None if layer.between is None else gather(layer.between),
        )

    return replace(
        kept,
        resid_pre=gather(kept.resid_pre),
        layers=[folded(layer) for layer in kept.layers],
        sequence=torch.tensor([names.index(name) for name in clusters], device=kept.sequence.device),
        rows=kept.rows - (begins - moved)[:, None].to(kept.rows.device),
    )


def _alike(batch: Batch, one: Part, two: Part) -> bool:
    """Are two prefixes the same words? (Their pictures are: they are of one cluster.)"""
    (a, *ends), (b, *others) = one, two
    return torch.equal(batch.tokens[a, slice(*ends)], batch.tokens[b, slice(*others)])


def _layout(parts: list[list[Part]]) -> tuple[Int[Tensor, "sequence position"], ...]:
    """For every position of the folded sequences: the sample it comes from, its place there, and the part of the
    sequence it is in (0: the prefix, -1: padding at the end)."""
    longest = max(sum(past - first for _, first, past in mine) for mine in parts)
    source, place = torch.zeros(2, len(parts), longest, dtype=torch.long)
    block = torch.full((len(parts), longest), -1)
    for row, mine in enumerate(parts):
        at = 0
        for number, (sample, first, past) in enumerate(mine):
            now = slice(at, at := at + past - first)
            source[row, now], place[row, now], block[row, now] = sample, torch.arange(first, past), number
        source[row, at:] = mine[0][0]
    return source, place, block


def _mask(
    mask: Bool[Tensor, "#sample 1 query key"] | None,
    source: Int[Tensor, "sequence position"],
    place: Int[Tensor, "sequence position"],
    block: Int[Tensor, "sequence position"],
    padding: Int[Tensor, " sample"],
) -> Bool[Tensor, "sequence 1 query key"]:
    """What each position saw in its own sample; the prefix' keys lie there as far from the padding as in its donor."""
    count, length = source.shape
    sample = source[:, :, None].expand(-1, -1, length)  # of the query
    query = place[:, :, None].expand(-1, -1, length)
    key = (place - padding[source])[:, None, :] + padding[sample]
    if mask is None:
        seen = key <= query
    else:
        if mask.dtype != torch.bool:
            raise BadInput(f"the attention mask is {mask.dtype}: give a 2-D attention_mask or a 4-D boolean one")
        which = sample if mask.shape[0] > 1 else torch.zeros_like(sample)
        seen = mask[:, 0].cpu()[which, query, key.clamp(0, mask.shape[-1] - 1)]
    together = (block[:, None, :] == 0) | (block[:, None, :] == block[:, :, None])
    real = (block >= 0)[:, :, None] & (block >= 0)[:, None, :]
    alone = torch.eye(length, dtype=torch.bool).expand(count, -1, -1)  # padding sees itself: no row is empty
    seen = (seen & together & real) | (alone & (block < 0)[:, :, None])
    return seen[:, None].to("cpu" if mask is None else mask.device)
