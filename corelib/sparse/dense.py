"""What dense heads read: all keys up to their own row."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def full_attention(
    query: Float[Tensor, "batch head row dim"],
    key: Float[Tensor, "batch kv_head key dim"],
    value: Float[Tensor, "batch kv_head key value_dim"],
    mask: Bool[Tensor, "batch mask_head row key"] | None,
    *,
    scaling: float,
) -> Float[Tensor, "batch row head value_dim"]:
    """softmax(q Kᵀ · scaling) V over what the `mask` shows; without one, over the keys up to the row, and a single row
    sees all of them. Dtype and device are those of `query`.

    >>> import torch
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
    out = scaled_dot_product_attention(query, key, value, mask, scale=scaling, is_causal=causal)
    return out.transpose(1, 2)
