"""What heads write into the residual stream, asked of the module that writes it.

The weight of `o_proj` is not always what it does: an adapter (LoRA) adds to it, a quantiser packs it, accelerate keeps
it elsewhere. So the module itself is called, once for each head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def head_writes(o_proj: nn.Module, z: Float[Tensor, "batch head row dim"]) -> Float[Tensor, "batch head row width"]:
    """What each head writes: `o_proj(z with all other heads at zero) − o_proj(0)`.

    `o_proj` is linear, or linear and a bias, which cancels; so what the heads write adds up to all that is written but
    the bias.

    Args:
        o_proj: The module that mixes the heads: [..., head · dim] to [..., width].
        z: The heads' outputs before it, in a dtype and on a device that it takes.

    Returns:
        In the dtype and on the device that the module answers in.

    >>> head_writes(nn.Linear(4, 3), torch.ones(1, 2, 5, 2)).shape
    torch.Size([1, 2, 5, 3])
    """
    heads = z.shape[1]
    alone = torch.eye(heads, dtype=z.dtype, device=z.device)[:, None, :, None]  # [head, 1, head, 1]
    apart = (z[:, :, :, None] * alone).flatten(3)  # [batch, head, row, head · dim]
    written: Tensor = o_proj(apart) - o_proj(torch.zeros_like(apart[:1, :1, :1]))
    return written
