"""What `sparsify` computes, as a mask over dense attention: slower, but gradients pass through it, and it can be taken
apart.

    with masked_window(model, dense, Window(256, sinks=6)):                        # the numbers of `sparsify`
    with masked_window(model, dense, Window(256, sinks=6), rows=(0, 4000)):        # only these rows are short-sighted
    with masked_window(model, dense, Window(256, sinks=6), also=names):            # and all rows see these keys

It answers where accuracy is lost, and lets a model be trained under the windows that it will have.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from corelib.attention.call import AttentionCall, Inner, explicit_mask, require_keys, require_one_way, sequence_starts
from corelib.attention.chosen import Heads, heads_by_layer
from corelib.attention.interface import running
from corelib.core.errors import BadInput
from corelib.sparse.window import Window


@contextmanager
def masked_window(
    model: nn.Module,
    dense: Heads,
    window: Window,
    *,
    rows: tuple[int, int | None] = (0, None),
    also: Bool[Tensor, " key"] | None = None,
) -> Iterator[None]:
    """The `dense` heads attend to everything, all others to what `window` shows.

    Args:
        model: Of transformers.
        dense: Heads that stay as they are.
        window: What the others see.
        rows: The first position whose rows are short-sighted, and the first that is not any more (None: none).
        also: Further keys that all rows see which stand behind them; keys beyond its end are not among them.

    Raises:
        BadInput: The rows are no span; the model has no such dense head; keys are missing (`sparsify` with its own
            cache), or dropped by a sliding cache; and what `running` refuses.
        UnsupportedArchitecture: Inside, for a prompt in which rows see tokens behind them.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **sizes))
    >>> with masked_window(model, "L0H1", Window(2, sinks=1)):
    ...     model(torch.tensor([[1, 2, 3, 4]])).logits.sum().backward()
    """
    far = heads_by_layer(model, dense)
    first, past = rows
    if first < 0 or (past is not None and past <= first):
        raise BadInput(f"rows={rows}: give a span of positions, such as (0, 100), or (100, None) for all from 100 on")

    def program(call: AttentionCall, inner: Inner) -> Tensor:
        require_keys(call)
        if call.first_key:
            raise BadInput(f"the cache of layer {call.layer} slides, so its sinks are gone: use a DynamicCache()")
        heads = far.get(call.layer, ())
        place = torch.arange(call.query.shape[2], device=call.query.device) + call.offset
        near = (place >= first) & (place < (past if past is not None else len(place) + call.offset))
        if len(heads) == call.num_heads or not near.any():
            return inner(call)
        require_one_way(call)
        begins = sequence_starts(call)[:, None, None]  # [batch or 1, 1, 1]
        key = torch.arange(call.key.shape[2], device=place.device)
        seen = window.seen(place[:, None] - begins, key - begins) | ~near[:, None]
        if also is not None:
            seen = seen | torch.nn.functional.pad(also.to(key.device), (0, max(0, len(key) - len(also))))[: len(key)]
        mask = seen[:, None].repeat(1, call.num_heads, 1, 1)
        mask[:, list(heads)] = True
        return inner(replace(call, mask=mask & explicit_mask(call)))

    with running(model, program):
        yield
