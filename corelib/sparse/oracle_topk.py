"""What no window can beat: every row sees the keys it likes best. It needs the attention that it would save."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from corelib.attention.call import AttentionCall, Inner, explicit_mask, require_keys
from corelib.attention.chosen import Heads, heads_by_layer
from corelib.attention.interface import running
from corelib.core.errors import BadInput

ROWS = 512  # at once


@contextmanager
def oracle_topk(model: nn.Module, count: int, dense: Heads = ()) -> Iterator[None]:
    """Every row of every head sees only its `count` keys of highest score q kᵀ; scores are compared in float32. The
    `dense` heads see all.

    Raises:
        BadInput: `count` is below 1; the model has no such dense head;
            keys are missing (`sparsify` with its own cache); and what `running` refuses.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from corelib.attention.record import record
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **sizes))
    >>> with oracle_topk(model, 2), record(model, rows=-1) as recorded:
    ...     _ = model(torch.tensor([[1, 2, 3, 4]]))
    >>> (recorded.stack() > 0).sum(-1).flatten().tolist()  # keys that the last row sees, by head
    [2, 2]
    """
    if count < 1:
        raise BadInput(f"{count} keys: give 1 or more")
    far = heads_by_layer(model, dense)

    def program(call: AttentionCall, inner: Inner) -> Tensor:
        require_keys(call)
        seen, key = explicit_mask(call), call.key.float().repeat_interleave(call.num_heads // call.num_kv_heads, 1)
        mask = seen.repeat(1, call.num_heads // seen.shape[1], 1, 1)
        for start in range(0, mask.shape[2], ROWS):
            part = slice(start, start + ROWS)
            last = max(seen[:, :, part].any(2).nonzero()[:, -1].tolist(), default=0) + 1  # no row looks further
            rows, query = mask[:, :, part, :last], call.query[:, :, part].float()
            logits = (query @ key[:, :, :last].mT).masked_fill_(~rows, -torch.inf)
            rows &= logits >= logits.topk(min(count, last), -1, sorted=False).values.amin(-1, keepdim=True)
        heads = list(far.get(call.layer, ()))
        mask[:, heads] = seen if seen.shape[1] == 1 else seen[:, heads]
        return inner(replace(call, mask=mask))

    with running(model, program):
        yield
