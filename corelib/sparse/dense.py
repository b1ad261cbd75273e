"""What dense heads read: all keys up to their own row."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

LONG = 1024  # rows from which on it matters which thread takes which
ATTEND = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)  # with the log of its sums


def full_attention(
    query: Float[Tensor, "batch head row dim"],
    key: Float[Tensor, "batch kv_head key dim"],
    value: Float[Tensor, "batch kv_head key dim"],
    mask: Bool[Tensor, "batch mask_head row key"] | None,
    *,
    scaling: float,
) -> Float[Tensor, "batch row head dim"]:
    """softmax(q Kᵀ · scaling) V over what the `mask` shows; without one, over the keys up to the row, and a single row
    sees all of them.

    >>> query, value = torch.tensor([[[[1.0], [0.0]]]]), torch.tensor([[[[1.0], [3.0]]]])  # one head, two rows
    >>> full_attention(query, query, value, None, scaling=1.0).flatten().tolist()
    [1.0, 2.0]
    """
    rows = query.shape[2]
    causal = mask is None and rows > 1
    if causal:  # what lies behind the rows is an empty static cache
        key, value = key[:, :, :rows], value[:, :, :rows]
    group = query.shape[1] // key.shape[1]
    if group > 1:
        key, value = (states.repeat_interleave(group, 1) for states in (key, value))
    if causal and rows >= LONG and _is_uneven(query):
        out = in_halves(query, key, value, scaling=scaling)
    else:
        out = scaled_dot_product_attention(query, key, value, mask, scale=scaling, is_causal=causal)
    return out.transpose(1, 2)


def in_halves(
    query: Float[Tensor, "batch head row dim"],
    key: Float[Tensor, "batch head row dim"],
    value: Float[Tensor, "batch head row dim"],
    *,
    scaling: float,
) -> Float[Tensor, "batch head row dim"]:
    """Causal attention as two triangles side by side and a rectangle, on a processor.

    Threads share the rows of a head from first to last, and the last ones see the most keys: of two threads one does
    three quarters of the work. Each half of the rows has a triangle of its own, and the second one sees all keys of the
    first: three pieces that threads share evenly. The two parts of a row are weighed by their sums of exponentials.
    """
    half = query.shape[2] // 2
    query, rest = query[:, :, : 2 * half], query[:, :, 2 * half :]

    def side_by_side(states: Tensor) -> Tensor:
        return states[:, :, : 2 * half].unflatten(2, (2, half)).flatten(1, 2)

    near, sums = ATTEND(*map(side_by_side, (query, key, value)), 0.0, True, scale=scaling)
    (first, near), sums = near.unflatten(1, (-1, 2)).unbind(2), sums.unflatten(1, (-1, 2))[:, :, 1]
    far, far_sums = ATTEND(query[:, :, half:], key[:, :, :half], value[:, :, :half], scale=scaling)
    second = torch.lerp(near, far, (far_sums - sums).sigmoid()[..., None].to(far.dtype))
    last = [scaled_dot_product_attention(rest, key, value, scale=scaling)] if rest.shape[2] else []  # an odd row
    return torch.cat([first, second, *last], 2)


def _is_uneven(query: Tensor) -> bool:
    heads = query.shape[0] * query.shape[1]
    return (
        ATTEND is not None
        and query.device.type == "cpu"
        and not (torch.is_grad_enabled() and query.requires_grad)
        and heads % torch.get_num_threads() > 0
    )
