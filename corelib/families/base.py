"""What corelib must know about a family of models: little, and only how pictures become tokens.

Attention, layers and heads are read off the model itself (`corelib.attention.interface`). A family puts samples into
the words and pixels of its models, and says which token shows which part of which picture. It never computes a score.

    bundled.py      the models inside the package, with prompts of their own
    chat.py         what all published families share: a chat template, an image processor, a tokenizer
    qwen3_vl.py     and the others: one small file each
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from corelib.core.errors import BadInput
from corelib.families.regions import Grid
from corelib.tasks.sample import Sample

MOST_SHOWN = 60  # characters of a text, in an error


@dataclass(frozen=True)
class View:
    """What a model is shown in one piece: a picture, a mosaic of tiles of it, or a slice of a clip."""

    images: tuple[int, ...]  # which pictures of the sample lie on it: one, but for frames that are merged
    grid: Grid
    positions: Int[Tensor, " token"]  # of the grid's tokens in the sequence, in raster order


@dataclass(frozen=True)
class ModelInputs:
    """Samples as model inputs, left-padded, and where their words and pictures are."""

    inputs: dict[str, Tensor]
    views: list[list[View]]
    lengths: Int[Tensor, "sample 3"]  # how many tokens at the end of each row are (question, closing, answer): what
    # closes a prompt is its template's, such as "answer with one word" and the marks of a turn
    context: Bool[Tensor, "sample token"]  # the text before the question
    spans: Bool[Tensor, "sample token"]  # of that, the text that holds the answer
    told: Bool[Tensor, "sample token"]  # of the answer, the tokens that say what was asked


class Family(ABC):
    """One adapter a family."""

    if TYPE_CHECKING:  # a field of some families, made by others: at run time, this would be the field's default

        @property
        def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @abstractmethod
    def build_inputs(self, samples: Sequence[Sample], answers: bool) -> ModelInputs:
        """Samples as model inputs, with their answers or without.

        Raises: BadInput for a question or a picture that the model cannot read.
        """


def refuse_special(tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]) -> None:
    """Texts that hold a special token would be read as that token: as a picture, or as the end of a turn.

    Raises: BadInput, which names the token and the text.
    """
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    marks = {*added, *map(str, tokenizer.all_special_tokens)}
    for sample in samples:
        for what in ("question", "answer", "context"):
            text = getattr(sample, what)
            found = next((mark for mark in sorted(marks, key=len, reverse=True) if mark in text), None)
            if found is not None:
                shown = text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"
                raise BadInput(
                    f"the {what} {shown!r} holds {found}, a special token of this model, which would be read as such: "
                    "write it otherwise"
                )


def touching(places: Sequence[tuple[int, int]], start: int, ranges: Sequence[tuple[int, int]]) -> list[bool]:
    """Which tokens, given by their characters [first, last), touch one of the `ranges`, which count from `start`.

    >>> touching([(0, 3), (3, 6), (6, 9)], 4, [(0, 2)])
    [False, True, False]
    """
    return [
        any(first < last and first < start + past and last > start + begin for begin, past in ranges)
        for first, last in places
    ]


def told_of(sample: Sample, places: Sequence[tuple[int, int]], start: int = 0) -> list[bool]:
    """Which tokens of an answer, given by their characters, say what was asked; the answer begins at `start`.

    Raises: BadInput if `sample.told` marks nothing of it.

    >>> told_of(Sample("scenes", "test", 0, 0, "", "digit ?", "it is 7", told=(6, 7)), [(0, 2), (2, 5), (5, 7)])
    [False, False, True]
    """
    if sample.told is None:
        return [True] * len(places)
    found = touching(places, start, [sample.told])
    if not any(found):
        raise BadInput(f"told={sample.told} marks nothing of {sample.answer!r}: give characters [first, past) of it")
    return found


def left_pad(
    rows: Sequence[Sequence[int]], marks: Sequence[Sequence[Sequence[bool]]], fill: int
) -> tuple[Tensor, Tensor, Bool[Tensor, "mark sample token"]]:
    """Rows of token ids, left-padded to one length, their attention mask, and marks of their *first* tokens (those
    before the question) at the places where these now stand.

    >>> ids, mask, marked = left_pad([[5, 6, 7], [8]], [[[True]], [[True]]], fill=0)
    >>> ids.tolist(), mask.tolist(), marked.int().tolist()
    ([[5, 6, 7], [0, 0, 8]], [[1, 1, 1], [0, 0, 1]], [[[1, 0, 0], [0, 0, 1]]])
    """
    length = max(map(len, rows))
    ids = torch.tensor([[fill] * (length - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    marked = torch.zeros(len(marks[0]), *ids.shape, dtype=torch.bool)
    for number, (row, mine) in enumerate(zip(rows, marks, strict=True)):
        for kind, one in enumerate(mine):
            start = length - len(row)
            marked[kind, number, start : start + len(one)] = torch.tensor(one, dtype=torch.bool)
    return ids, mask, marked
