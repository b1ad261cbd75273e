"""The phases of a run that are timed, with dense and with hybrid attention in turn:

    attention   the attention function alone, all layers together
    prefill     the language model reads a sequence, and says what comes next
    first       the same with the vision tower: the time to the first token, where there are pictures
    decode      one more token, with a cache

Durations are in seconds: the median, the least and the most of several runs after a warm-up.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from corelib.benchmarks.timing import Compared, Sizes, Times, attention_seconds, peak_bytes, timed
from corelib.sparse.kv import SinkWindowCache
from corelib.sparse.program import Sparse

STEPS = 8  # tokens that are decoded in a run
Sparsifying = Callable[[], AbstractContextManager[Sparse]]  # a fresh `with sparsify`
Pictures = Callable[[int], dict[str, Tensor]]  # inputs of about so many visual tokens
Promise = Callable[..., float]  # the speed-up by counting keys: of a share of attention, at so many rows


class PhaseTimes(TypedDict):
    """All phases at one length, with the bytes of the cache and those that prefill holds beyond the weights."""

    attention: Compared
    prefill: Compared
    first: Compared | None
    decode: Compared
    cache: Sizes
    memory: Sizes


@dataclass(frozen=True)
class Phases:
    """A model that is timed, dense and hybrid."""

    model: PreTrainedModel
    hybrid: Sparsifying
    promise: Promise
    repeats: int

    def at(self, length: int, pictures: Pictures | None = None) -> PhaseTimes:
        """Every phase with a sequence of `length` tokens; the first token only where there are `pictures`."""
        config = self.model.config.get_text_config()
        embedded = torch.randn(1, length, config.hidden_size, dtype=self.model.dtype, device=self.model.device)
        attention, prefill, memory = self.reading(embedded)
        first = None if pictures is None else self.first_token(pictures(length), attention.dense.seconds)
        decode, cache = self.decoding(embedded)
        return PhaseTimes(attention=attention, prefill=prefill, first=first, decode=decode, cache=cache, memory=memory)

    def reading(self, embedded: Tensor) -> tuple[Compared, Compared, Sizes]:
        """Attention alone, prefill, and the bytes that prefill holds."""
        attention, prefill = _both(), _both()
        memory: dict[str, int | None] = {}
        for turn in range(self.repeats + 1):
            for way, using in self._ways().items():
                with using(), peak_bytes(self.model.device) as held:
                    whole = timed(partial(_read, self.model, embedded), self.model.device)
                with attention_seconds(self.model) as watch, using():
                    _read(self.model, embedded)
                if turn:  # the first round warms up
                    prefill[way].append(whole)
                    attention[way].append(watch())
                    memory[way] = held()
        rows = embedded.shape[1]
        share = Times.of(attention["dense"]).seconds / Times.of(prefill["dense"]).seconds
        return (
            replace(Compared.of(attention), ideal=self.promise(1.0, rows=rows)),
            replace(Compared.of(prefill), ideal=self.promise(share, rows=rows)),
            Sizes(**memory),
        )

    def first_token(self, inputs: dict[str, Tensor], attention: float) -> Compared:
        """The whole model up to the first token; `attention` is the seconds that dense attention takes of it."""
        both = _both()
        for turn in range(self.repeats + 1):
            for way, using in self._ways().items():
                with using():
                    spent = timed(lambda: self.model(**inputs, use_cache=False, logits_to_keep=1), self.model.device)
                if turn:
                    both[way].append(spent)
        found, tokens = Compared.of(both), inputs["input_ids"].shape[1]
        share = min(1.0, attention / found.dense.seconds)
        return replace(found, ideal=self.promise(share, rows=tokens), tokens=tokens)

    def decoding(self, embedded: Tensor) -> tuple[Compared, Sizes]:
        """A step of decoding, and the bytes of a cache: with all keys, and with those that are read."""
        both, memory = _both(), {}
        for way in both:
            with self.hybrid() if way == "hybrid" else nullcontext() as sparse:
                cache: Cache = DynamicCache() if sparse is None else sparse.cache()
                self.model.get_decoder()(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
                for turn in range(1 + self.repeats * STEPS):
                    spent = timed(partial(_step, self.model, embedded[:, -1:], cache), self.model.device)
                    if turn:
                        both[way].append(spent)
                memory[way] = _held(cache)
        return Compared.of(both), Sizes(**memory)

    def _ways(self) -> dict[str, Callable[[], AbstractContextManager[object]]]:
        return {"dense": nullcontext, "hybrid": self.hybrid}


def _both() -> dict[str, list[float]]:
    return {"dense": [], "hybrid": []}


def _read(model: PreTrainedModel, embedded: Tensor) -> None:
    hidden = model.get_decoder()(inputs_embeds=embedded, use_cache=False).last_hidden_state
    model.get_output_embeddings()(hidden[:, -1])


def _step(model: PreTrainedModel, token: Tensor, cache: Cache) -> None:
    hidden = model.get_decoder()(inputs_embeds=token, past_key_values=cache, use_cache=True).last_hidden_state
    model.get_output_embeddings()(hidden)


def _held(cache: Cache) -> int:
    """The bytes of all keys and values."""
    if isinstance(cache, SinkWindowCache):
        return cache.nbytes
    kept = (one for layer in cache.layers for one in (getattr(layer, "keys", None), getattr(layer, "values", None)))
    return sum(one.nbytes for one in kept if isinstance(one, Tensor))
