"""A batch of encoded samples, and what is known about every token: which are visual, which cover the evidence, which
rows predict the answer. Everything that is measured later starts from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from corelib.core.errors import BadInput, BadRegion, check_known
from corelib.core.geometry import Box
from corelib.core.heads import ROWS
from corelib.families.base import View
from corelib.families.regions import coverage
from corelib.tasks.sample import Sample

POSITION_KINDS = ("padding", "text", "visual", "question", "last", "answer")  # of positions


@dataclass(frozen=True)
class Batch:
    """A batch of samples, ready for the model (`VLM.encode` makes it). `inputs` go to it; the rest says what its tokens
    are.

    Sequences are padded on the left. Every mask is boolean, over the padded sequence, on the device of the inputs.

    >>> from corelib import load, task
    >>> batch = load("mini-s").encode(task("scenes").samples("test", 0, 2))
    >>> batch.tokens.shape == batch.visual.shape == batch.rows("answer").shape
    True
    """

    samples: tuple[Sample, ...]
    inputs: dict[str, Tensor]
    views: list[list[View]]  # of each sample: what is shown of its pictures, and where
    lengths: Int[Tensor, "batch 3"]  # how many tokens at the end of each row are (question, closing, answer)
    context: Bool[Tensor, "batch token"]  # text before the question
    spans: Bool[Tensor, "batch token"]  # of that, what holds the answer
    told: Bool[Tensor, "batch token"]  # of the answer, the tokens that say what was asked

    @property
    def tokens(self) -> Int[Tensor, "batch token"]:
        """The token ids, int64."""
        return self.inputs["input_ids"]

    @property
    def real(self) -> Bool[Tensor, "batch token"]:
        """Which tokens are not padding."""
        return self.inputs["attention_mask"].bool()

    @cached_property
    def visual(self) -> Bool[Tensor, "batch token"]:
        """Which tokens stand for pixels."""
        mask = torch.zeros_like(self.tokens, dtype=torch.bool)
        for row, views in enumerate(self.views):
            for view in views:
                mask[row, view.positions] = True
        return mask

    @cached_property
    def evidence(self) -> Bool[Tensor, "batch token"]:
        """The tokens to be read: visual ones that cover the region, or in a text the ones of the span.

        Raises:
            BadInput, BadRegion: As `cover`.
        """
        return self.cover([sample.evidence for sample in self.samples]) | self.spans

    @cached_property
    def source(self) -> Bool[Tensor, "batch token"]:
        """The tokens among which the evidence is: the visual ones; without a picture, the text before the question."""
        return torch.where(self.visual.any(1, keepdim=True), self.visual, self.context)

    @cached_property
    def anchors(self) -> Bool[Tensor, "batch token"]:
        """The tokens that help to find the evidence.

        Raises:
            BadInput, BadRegion: As `cover`.
        """
        return self.cover([sample.anchors for sample in self.samples])

    @cached_property
    def distractors(self) -> Bool[Tensor, "batch region token"]:
        """One mask a distractor region; rows of False where a sample has fewer. Evidence tokens are left out.

        Raises:
            BadInput, BadRegion: As `cover`.
        """
        most = max((len(sample.distractors) for sample in self.samples), default=0)
        regions = [
            self.cover([sample.distractors[k : k + 1] for sample in self.samples]) & ~self.evidence for k in range(most)
        ]
        return torch.stack(regions, 1) if regions else self.visual.new_zeros(len(self.samples), 0, self.visual.shape[1])

    def cover(self, boxes: Sequence[Sequence[Box]]) -> Bool[Tensor, "batch token"]:
        """The tokens that `boxes[i]` touch on the pictures of sample `i`.

        Args:
            boxes: Those of each sample, in pixels of its pictures; there may be none.

        Raises:
            BadInput: A box is on a picture that the sample does not have.
            BadRegion: A box touches no token.
        """
        mask = torch.zeros_like(self.visual)
        for row, (mine, views) in enumerate(zip(boxes, self.views, strict=True)):
            for box in mine:
                shown = [view for view in views if box.image in view.images]
                if not shown:
                    count = len(self.samples[row].images)
                    raise BadInput(f"{box} is on picture {box.image}, but the sample has {count}")
                flat = replace(box, image=0)
                touched = [view.positions[coverage(view.grid, flat) > 0] for view in shown]
                if not sum(map(len, touched)):
                    raise BadRegion(f"{box} falls between the tokens of its picture: draw it larger")
                for positions in touched:
                    mask[row, positions] = True
        return mask

    def rows(self, name: str) -> Bool[Tensor, "batch token"]:
        """Query rows by name: `answer` (they predict the answer's tokens), `last` (of the prompt), `question`.

        Of an answer of which a part says what was asked (`Sample.told`), `answer` are the rows that predict that part.
        Without an answer, `answer` is the same as `last`.

        Raises:
            UnknownName: There are no such rows.
        """
        check_known("query rows", name, ROWS)
        length = self.tokens.shape[1]
        place = torch.arange(length, device=self.tokens.device)
        question, closing, answer = self.lengths.T[..., None].unbind()
        last = length - 1 - answer  # the last token of the prompt: it predicts the answer's first token
        if name == "question":
            return (place > last - closing - question) & (place <= last - closing)
        if name == "last":
            return place == last
        return self.told.roll(-1, 1) | ((place == last) & (answer == 0))

    @property
    def after_image(self) -> Bool[Tensor, "batch token"]:
        """Rows after the last token of the source: the question and the answer."""
        place = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return place > torch.where(self.source, place, -1).amax(1, keepdim=True)

    @property
    def position_kinds(self) -> Int[Tensor, "batch token"]:
        """What every position is, as its place in `POSITION_KINDS`, int64.

        `last` is the last of the prompt, `answer` the rows after it that predict the rest of the answer, `text` all
        that is nothing else.
        """
        kinds = self.real.long()
        masks = {"visual": self.visual, **{name: self.rows(name) for name in ("question", "answer", "last")}}
        for name, mask in masks.items():
            kinds[mask] = POSITION_KINDS.index(name)
        return kinds
