"""What every head looks at from every word after the pictures: the attention of one sample, on its pictures.

    seen = attention_by_word(vlm, task("scenes").sample("test", seed=0, index=0))
    seen.words                      # the rows: the question, and the answer but for its last token
    seen.maps[0][4, 0, 2]           # [row, column]: what L4H0 pays to the first picture at the third word
    seen.evidence[4, 0, 2]          # and to the evidence

`map_attention` shows chosen heads at one row; here are all of them. It is an illustration, of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from corelib.attention.record import record
from corelib.core.errors import BadInput
from corelib.families.base import View
from corelib.models.attention_map import picture_maps
from corelib.models.vlm import VLM
from corelib.tasks.sample import Sample

MOST_WORDS = 24  # rows: of a longer prompt its last


@dataclass(frozen=True)
class AttentionByWord:
    """Attention of all heads at the rows after the pictures, float32; a row's whole attention adds up to 1."""

    sample: Sample
    said: str  # the most likely token at each answer row, joined
    words: tuple[str, ...]
    answering: tuple[bool, ...]  # which rows predict the answer
    maps: tuple[Float[Tensor, "layer head word row column"], ...]  # one a picture
    evidence: Float[Tensor, "layer head word"]


@torch.no_grad()
def attention_by_word(vlm: VLM, sample: Sample) -> AttentionByWord:
    """Read one sample, with its right answer, and keep what its words look at in the pictures.

    Raises: BadInput if the sample has no picture or no answer.

    >>> from corelib import load, task
    >>> seen = attention_by_word(load("mini-s"), task("scenes").sample("test", seed=0, index=0))
    >>> " ".join(seen.words[1:]), seen.said, seen.maps[0].shape  # [layer, head, word, row, column]
    ('digit on cyan triangle ?', '0', torch.Size([6, 8, 6, 6, 6]))
    """
    if not sample.images or not sample.answer:
        raise BadInput("attention by word needs a sample with pictures and an answer: this one lacks them")
    batch = vlm.encode([sample])
    rows = batch.after_image.clone()
    rows[:, -1] = False  # the last token of the answer predicts nothing
    rows &= rows.flip(1).cumsum(1).flip(1) <= MOST_WORDS
    with record(vlm.model, rows) as recorded:
        said = vlm.answer(batch).predicted[0]
    attention = recorded.stack()[:, 0].cpu()  # [layer, head, word, key]
    tokens, answering = batch.tokens[0][rows[0]].tolist(), batch.rows("answer")[0][rows[0]].tolist()
    return AttentionByWord(
        sample,
        said,
        tuple(str(vlm.tokenizer.decode([token])) for token in tokens),
        tuple(answering),
        tuple(_on_pictures(attention, batch.views[0])),
        attention[..., batch.evidence[0].cpu()].sum(-1),
    )


def _on_pictures(
    attention: Float[Tensor, "*rows key"], views: Sequence[View]
) -> list[Float[Tensor, "*rows row column"]]:
    """`picture_maps` of many rows at once: where one unit of attention on each visual key goes, times the attention."""
    visual = torch.cat([view.positions for view in views]).cpu().unique()
    units = torch.zeros(len(visual), attention.shape[-1])
    units[torch.arange(len(visual)), visual] = 1
    shares = map(torch.stack, zip(*(picture_maps(unit, views) for unit in units), strict=True))
    return [torch.einsum("...k,kyx->...yx", attention[..., visual], share) for share in shares]
