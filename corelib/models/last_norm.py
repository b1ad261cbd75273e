"""The last norm of a decoder, and its unembedding: what direct logit attribution is computed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from corelib.core.errors import UnsupportedArchitecture
from corelib.models.vlm import VLM


@dataclass(frozen=True)
class LastNorm:
    """An RMS norm x ↦ g ⊙ x / √(mean x² + ε), and what stands behind it."""

    gain: Float[Tensor, " width"]
    epsilon: float
    unembedding: Float[Tensor, "word width"]

    @classmethod
    def of(cls, vlm: VLM) -> LastNorm:
        """That of a model.

        Raises: UnsupportedArchitecture if its decoder ends with another norm, its logits are no product with one
        matrix, or these weights cannot be read: they are offloaded, or quantised.

        >>> from corelib import load
        >>> LastNorm.of(load("mini-s")).gain.shape
        torch.Size([128])
        """
        decoder: Any = vlm.model.get_decoder()
        norm: Any = getattr(decoder, "norm", None)
        head = vlm.model.get_output_embeddings()
        epsilon = getattr(norm, "variance_epsilon", None)
        if epsilon is None or getattr(norm, "bias", None) is not None or not isinstance(head, torch.nn.Linear):
            raise UnsupportedArchitecture(
                f"{type(vlm.model).__name__} does not end with an RMS norm and one matrix: logits cannot be attributed"
            )
        if any(part.weight.is_meta or not part.weight.is_floating_point() for part in (norm, head)):
            raise UnsupportedArchitecture(
                f"the weights of {type(head).__name__} or of the norm before it are offloaded or quantised, so logits "
                "cannot be attributed: keep both in memory as they are (device_map, llm_int8_skip_modules)"
            )
        return cls(norm.weight.detach(), float(epsilon), head.weight.detach())

    def scale(self, stream: Float[Tensor, "batch row width"]) -> Float[Tensor, "batch row"]:
        """By what the norm divides each row of the residual stream."""
        found: Tensor = (stream.float().square().mean(-1) + self.epsilon).sqrt()
        return found
