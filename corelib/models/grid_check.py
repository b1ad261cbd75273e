"""Is a token where a family says it is? Paint over a region of a picture, and see which tokens change.

    found = repaint(vlm, Sample.of([image], "What is it?"), Box(40, 30, 90, 110))
    found.exact                      # every token of the finest view that changed was claimed, and the other way round

The blocks of the vision tower mix all tokens, so they are taken out of the way: then a token depends on its own pixels,
and on nothing else. A picture that the family resizes is blurred a little, so a token beside the region may change
slightly: take a picture of the size that the family cuts without resizing, and the answer is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from corelib.core.errors import UnsupportedArchitecture
from corelib.core.geometry import Box
from corelib.models.vlm import VLM
from corelib.tasks.sample import Sample

TOWERS = ("visual", "vision_tower", "vision_model")  # what models call their vision tower
PAINT = (255, 0, 0)
ROUNDING = 1e-6


@dataclass(frozen=True)
class Perturbation:
    """What a region does to the tokens."""

    change: Float[Tensor, " token"]  # the largest change of any number of a token's embedding
    claimed: Bool[Tensor, " token"]  # the tokens that the family says cover the region
    finest: Int[Tensor, " token"]  # positions of the tokens of the picture's finest view

    @property
    def exact(self) -> bool:
        """In the finest view, exactly the claimed tokens changed."""
        return torch.equal(self.change[self.finest] > ROUNDING, self.claimed[self.finest])

    @property
    def elsewhere(self) -> float:
        """The largest change of a token that was not claimed, as a share of the largest of all."""
        return (self.change.masked_fill(self.claimed, 0.0).max() / self.change.max()).item()


def perturb_region(vlm: VLM, sample: Sample, box: Box) -> Perturbation:
    """Paint over a region of one picture of a sample; compare what enters the decoder before and after."""
    painted = sample.images[box.image].copy()
    painted.paste(PAINT, (round(box.x0), round(box.y0), round(box.x1), round(box.y1)))
    images = (*sample.images[: box.image], painted, *sample.images[box.image + 1 :])
    batch = vlm.encode([sample])
    change = (decoder_inputs(vlm, sample) - decoder_inputs(vlm, replace(sample, images=images))).abs().amax(1)
    views = [view for view in batch.views[0] if box.image in view.images]
    finest = max(views, key=lambda view: view.grid.tokens)
    return Perturbation(change, batch.cover([[box]])[0], finest.positions)


@torch.no_grad()
def decoder_inputs(vlm: VLM, sample: Sample) -> Float[Tensor, "token width"]:
    """What enters the decoder, with the blocks of the vision tower out of the way."""
    caught: list[Tensor] = []
    hook = vlm.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: caught.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with hook, bypassed_tower(vlm.model):
        vlm.model(**vlm.encode([sample]).inputs, use_cache=False, logits_to_keep=1)
    return caught[0][0]


@contextmanager
def bypassed_tower(model: nn.Module) -> Iterator[None]:
    """The blocks of the vision tower let everything pass unchanged.

    Raises: UnsupportedArchitecture if no blocks are found.
    """
    lists = [one for one in _tower(model).modules() if isinstance(one, nn.ModuleList)]
    blocks = [block for one in lists for block in one if hasattr(block, "mlp")]
    if not blocks:
        raise UnsupportedArchitecture(f"the vision tower of {type(model).__name__} has no blocks that can be passed by")
    for block in blocks:
        block.forward = lambda hidden_states, *args, **kwargs: hidden_states
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _tower(model: nn.Module) -> nn.Module:
    inner = getattr(model, "model", None)
    found: nn.Module | None = next((part for name in TOWERS if (part := getattr(inner, name, None)) is not None), None)
    if found is None:
        raise UnsupportedArchitecture(f"{type(model).__name__} has none of {', '.join(TOWERS)}")
    return found
