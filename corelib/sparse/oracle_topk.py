"""What no window can beat: every row sees the keys it likes best. It needs the attention that it would save."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from corelib.attention.interface import AttentionCall, Inner, explicit_mask, running
from corelib.core.errors import BadInput

ROWS = 512  # at once


@contextmanager
def oracle_topk(model: nn.Module, count: int) -> Iterator[None]:
    """Every row of every head sees only its `count` keys of highest attention."""
    if count < 1:
        raise BadInput(f"{count} keys: give 1 or more")

    def program(call: AttentionCall, inner: Inner) -> Tensor:
        seen, key = explicit_mask(call), call.key.float().repeat_interleave(call.num_heads // call.num_kv_heads, 1)
        mask = seen.repeat(1, call.num_heads // seen.shape[1], 1, 1)
        for start in range(0, mask.shape[2], ROWS):
            part = slice(start, start + ROWS)
            last = max(seen[:, :, part].any(2).nonzero()[:, -1].tolist(), default=0) + 1  # no row looks further
            rows, query = mask[:, :, part, :last], call.query[:, :, part].float()
            logits = (query @ key[:, :, :last].mT).masked_fill_(~rows, -torch.inf)
            rows &= logits >= logits.topk(min(count, last), -1, sorted=False).values.amin(-1, keepdim=True)
        return inner(replace(call, mask=mask))

    with running(model, program):
        yield
