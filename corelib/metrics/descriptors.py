"""What else a head does with its attention: the traits by which CoRe heads are compared with the rest.

    visual     Σ_{k∈V} A_k                                     how much goes to the pictures at all
    entropy    −Σ_{k∈V} p_k log p_k / log |V|, p = A / Σ_V A   0: on one visual token, 1: spread over all alike
    entropy elsewhere   the same over V without the evidence   a head on the evidence has low entropy by that alone
    sink       Σ_{k before the source} A_k                     what is parked on the first tokens of the sequence
    locality   Σ_{k: row − w < k ≤ row} A_k                    what stays with the row itself and its last neighbours

V is the source of the evidence: the visual tokens, or the list in a task of text alone. Our definitions; attention
sinks: Xiao et al., arXiv 2309.17453.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.metrics.ram import Attention, Keys, Rows, total

WINDOW = 8  # tokens, the row itself included
SINK, DEAD = 0.9, 0.05  # see `audit`


def entropy(attention: Attention, visual: Keys) -> Rows:
    """How widely a row looks over the pictures, in [0, 1]; 1 where it does not look at them at all. With V the visual
    keys and p = A / Σ_V A: −Σ_{k∈V} p_k log p_k / log |V|.

    Raises:
        BadInput: a sample has fewer than two visual tokens.

    >>> entropy(torch.tensor([[[0.0, 0.5, 0.5, 0.0, 0.0]]]), torch.tensor([False, True, True, True, True]))
    tensor([[0.5000]])
    """
    count = visual.sum(-1)[..., None, None]
    if (count < 2).any():
        raise BadInput("entropy over the pictures needs at least two visual tokens a sample")
    seen = attention * visual[..., None, None, :]
    whole = total(seen)
    spread = total(torch.special.entr(seen / whole.clamp_min(1e-30)[..., None])) / count.log()
    return torch.where(whole == 0, torch.ones_like(spread), spread)


def entropy_elsewhere(attention: Attention, visual: Keys, evidence: Keys) -> Rows:
    """How widely a row looks over the pictures outside the evidence, in [0, 1]: `entropy` over V ∖ E. A head that puts
    most of its attention on the evidence has a low entropy over V for that reason alone; this one is free of it.

    Raises:
        BadInput: a sample has fewer than two visual tokens that are not evidence.

    >>> visual, evidence = torch.tensor([[True] * 3]), torch.tensor([[True, False, False]])
    >>> entropy_elsewhere(torch.tensor([[[[0.8, 0.1, 0.1]]]]), visual, evidence)
    tensor([[[1.]]])
    """
    return entropy(attention, visual & ~evidence)


def keys_before(source: Keys, real: Keys) -> Keys:
    """The keys that stand before the source, padding excluded: where attention is parked.

    >>> keys_before(torch.tensor([False, False, True, True]), torch.tensor([False, True, True, True])).tolist()
    [False, True, False, False]
    """
    return (source.int().cumsum(-1) == 0) & real


def locality(attention: Attention, positions: Int[Tensor, "*#lead row"], window: int = WINDOW) -> Rows:
    """The attention on a row's own token and the `window` − 1 before it. `positions`: where each row stands.

    Raises:
        BadInput: `window` is below 1.

    >>> locality(torch.tensor([[[0.1, 0.2, 0.3, 0.4]]]), torch.tensor([3]), window=2)
    tensor([[0.7000]])
    """
    if window < 1:
        raise BadInput(f"window must be 1 or more, got {window}")
    keys = torch.arange(attention.shape[-1], device=attention.device)
    near = (keys <= positions[..., None]) & (keys > positions[..., None] - window)  # [row, key]
    return total(attention * near[..., None, :, :])


@dataclass(frozen=True)
class Audit:
    """Heads that do next to nothing, to be known before heads are ranked."""

    sinks: HeadSet  # park nearly all attention before the source
    dead: HeadSet  # write next to nothing


def audit(sink: Float[np.ndarray, "layer head"], norm: Float[np.ndarray, "layer head"]) -> Audit:
    """Which heads are idle, from two tables of means: those whose `sink` mass is above 0.9, and those whose output
    `norm` is below a twentieth of the median head's. Our definition.

    Raises:
        BadInput: the tables differ in shape, or hold what is not finite.

    >>> audit(np.array([[0.95, 0.1]]), np.array([[3.0, 0.01]])).sinks.to_json()
    ['L0H0']
    """
    sink, norm = np.asarray(sink), np.asarray(norm)
    if sink.shape != norm.shape or sink.ndim != 2:
        raise BadInput(f"sink is {sink.shape}, norm is {norm.shape}: both must be [layer, head]")
    if not (np.isfinite(sink).all() and np.isfinite(norm).all()):
        raise BadInput("sink and norm must be finite: a head with no number is not an idle one")
    idle = (sink > SINK, norm < DEAD * np.median(norm))
    return Audit(*(HeadSet(zip(*map(np.ndarray.tolist, np.nonzero(mask)), strict=True)) for mask in idle))
