"""What is trained: a model with its processor, which of its parts learn, and how its tower sees by itself.

Everything else about training (curriculum, resume, processes) is the same for a mini model, of which every weight is
new, and for the bridge, whose language model is not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel

from corelib.attention.intervene import knockout
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.families import bundled as families
from corelib.training.batches import TrainingBatch
from corelib.training.curriculum import Part


class Trainable(ABC):
    """A model in training."""

    model: PreTrainedModel
    family: families.Bundled

    @property
    def processor(self) -> families.Processor:
        return self.family.processor

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @abstractmethod
    def trained(self) -> Mapping[str, nn.Parameter]:
        """The parameters that some stage trains, by name."""

    @abstractmethod
    def set_learning(self, learns: Part) -> None:
        """Let the vision `tower` learn, the `language` model, or `both`; or the `adapters` of the bridge alone.

        Raises: BadInput for the adapters of a model that has none.
        """

    @abstractmethod
    def tower_tokens(self, images: Sequence[Image.Image]) -> list[Float[Tensor, "token width"]]:
        """The tower alone: the visual tokens of all images in order, at every level that the language model gets, in
        the scale in which they state facts (`tower_supervision.py`)."""

    @abstractmethod
    def logits(self, batch: TrainingBatch) -> Float[Tensor, "learned word"]:
        """What the model predicts at the rows that are learned."""

    def logits_alone(self, batch: TrainingBatch, gaps: Int[Tensor, " token"]) -> Float[Tensor, "learned word"]:
        """The same for a batch of one row, read without a mask of all its tokens, with `gaps` between positions
        (`turns.py`).

        Raises: BadInput for a model that reads turns one after another.
        """
        raise BadInput("a stage whose rows are read alone needs a model that reads each turn by itself: the bridge")

    @abstractmethod
    def renew_language(self, wording: bool = False) -> None:
        """Keep the tower, in half precision as it would ship, and put an untrained language model (or untrained
        adapters) behind it. With `wording`, what the tower states is first put into the language model's words."""

    @abstractmethod
    def save(self, folder: Path) -> str:
        """Write a folder that `corelib.load` reads. Returns the weights' sha256."""

    def eval_precision(self) -> AbstractContextManager[object]:
        """How the model computes while it is measured: in which precision, and not compiled."""
        return nullcontext()

    def kl_to_base(self, step: int, share: int, count: int) -> Float[Tensor, ""]:
        """How far a pretrained language model has moved from what it was, on `count` passages of its own: nats a token.

        Raises: BadInput for a model that was nothing before.
        """
        raise BadInput("a stage that keeps what a language model was needs one that was something before: the bridge")


def unsighted(model: nn.Module, visual: Bool[Tensor, "batch token"], heads: HeadSet) -> AbstractContextManager[object]:
    """No row of text of these `heads` sees a picture's tokens. The rows of the pictures themselves stay as they are."""
    return knockout(model, visual, ~visual, heads) if heads else nullcontext()


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Products in bfloat16 where autocast finds them safe."""
    return torch.autocast(device.type, torch.bfloat16)
