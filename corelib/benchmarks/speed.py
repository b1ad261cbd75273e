"""What hybrid attention gains, in seconds and bytes, on the processor at hand.

Four durations, dense against hybrid in turn, medians of several runs after a warm-up:

    attention   the attention function alone, all layers together
    prefill     the language model reads a sequence, and says what comes next
    first       the same with the vision tower: the time to the first token, where there are pictures
    decode      one more token, with a cache

Beside each speed-up stands what it would be if a key cost the same everywhere, `ideal`. With f the attention's share of
the dense duration, p the share of dense heads, and w the keys that a windowed row sees of the n that a dense one sees,
both on average:

    ideal = 1 / ((1 − f) + f · (p + (1 − p) · w / n))

Dense is transformers' own `sdpa` path. Nothing falls back to it: a hybrid that is slower is reported as slower. Two
sizes go with the durations: the most bytes that prefill holds beyond the weights, and those of the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from corelib.attention.interface import attention_modules
from corelib.benchmarks.timing import Compared, Sizes, Times, attention_seconds, machine_facts, peak_bytes, timed
from corelib.core.errors import BadInput, check_known
from corelib.core.heads import Heads, HeadSet
from corelib.core.memory import check_fits, working_bytes
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import BenchFacts, Machine, Software, WindowFacts
from corelib.experiments.out_of_window import HybridAccuracy
from corelib.sparse import BACKENDS, Window, sparsify
from corelib.sparse.kv import SinkWindowCache
from corelib.sparse.program import Sparse
from corelib.sparse.window import mean_keys

WAYS = ("dense", "hybrid")
STEPS = 8  # tokens that are decoded


@dataclass(frozen=True)
class SpeedAt:
    """Durations and sizes at one length, with one backend."""

    tokens: int
    backend: str
    attention: Compared
    prefill: Compared
    decode: Compared
    cache: Sizes
    memory: Sizes
    first: Compared | None = None  # with the vision tower, where there are pictures


@dataclass(frozen=True, repr=False)
class Speed(Result):
    """Durations by length of the sequence."""

    schema: ClassVar[str] = "corelib/bench/1"

    model: BenchFacts
    dense: Heads  # that attend to everything
    window: WindowFacts
    repeats: int
    lengths: tuple[SpeedAt, ...]
    machine: Machine
    software: Software
    seconds: float
    accuracy: HybridAccuracy | None = None  # of trained weights, where it was asked for


@torch.no_grad()
def measure_speed(
    model: PreTrainedModel,
    dense: HeadSet,
    window: Window,
    lengths: Sequence[int],
    *,
    facts: BenchFacts,
    pictures: Pictures | None = None,
    accuracy: Callable[[HeadSet, Window], HybridAccuracy] | None = None,
    backends: Sequence[str] = ("auto",),
    repeats: int = 3,
    progress: Progress = silent,
) -> Speed:
    """Time a model at each of the `lengths`, in tokens, with each of the `backends` (`sparsify`).

    `pictures(tokens)` makes inputs with pictures, for the time to the first token; `accuracy(dense, window)` tells what
    is still answered. Lengths that will not fit in memory are refused before anything is allocated.
    """
    began = time.perf_counter()
    layers, heads = len(attention_modules(model)), model.config.get_text_config().num_attention_heads
    dense.check(layers, heads)
    if not lengths or min(lengths) <= window.sinks or repeats < 1:
        raise BadInput(
            f"lengths {list(lengths)}, {repeats} repeats: give lengths beyond the {window.sinks} sinks, and 1 repeat "
            "or more"
        )
    chosen = [("flex" if model.device.type == "cuda" else "fold") if one == "auto" else one for one in backends]
    for one in chosen:
        check_known("backend", one, BACKENDS)
    if "flex" in chosen and model.device.type != "cuda":
        raise BadInput("FlexAttention is compiled for GPUs; here it would make a matrix of all pairs: time `fold`")
    for length in lengths:
        needed = working_bytes(model, length)
        check_fits(f"{length} tokens (beside the weights)", needed, model.device, "take fewer tokens or fewer layers")
    promise = partial(ideal, dense=len(dense) / (layers * heads), window=window)
    kept = None if accuracy is None else accuracy(dense, window)
    found: list[SpeedAt] = []
    for length in lengths:
        for backend in chosen:
            progress(len(found), len(lengths) * len(chosen))
            hybrid = partial(sparsify, model, dense, window, backend=backend)
            found.append(_at(model, hybrid, promise, length, backend, pictures, repeats))
    progress(len(found), len(found))
    return Speed(
        model=facts,
        dense=dense,
        window=WindowFacts(window.width, window.sinks),
        repeats=repeats,
        lengths=tuple(found),
        accuracy=kept,
        machine=machine_facts(model.device),
        software=software(),
        seconds=round(time.perf_counter() - began, 2),
    )


def ideal(share: float, dense: float, window: Window, rows: int) -> float:
    """The speed-up of something of which `share` is attention, if a key cost the same in every head.

    >>> round(ideal(1.0, 0.0, Window(4, sinks=0), 7), 2)  # a row sees 4 of 7 keys on average, and 22 of 28 in all
    1.27
    """
    left = mean_keys(dense, window, rows) / mean_keys(1.0, window, rows)
    return 1 / ((1 - share) + share * left)


Sparsifying = Callable[[], AbstractContextManager[Sparse]]  # a fresh `with sparsify`
Way = Callable[[], AbstractContextManager[object]]
Pictures = Callable[[int], dict[str, Tensor]]  # inputs of about so many visual tokens


def _at(
    model: PreTrainedModel,
    hybrid: Sparsifying,
    promise: Callable[..., float],
    length: int,
    backend: str,
    pictures: Pictures | None,
    repeats: int,
) -> SpeedAt:
    config = model.config.get_text_config()
    embedded = torch.randn(1, length, config.hidden_size, dtype=model.dtype, device=model.device)
    ways: dict[str, Way] = {"dense": nullcontext, "hybrid": hybrid}

    def read() -> None:
        hidden = model.get_decoder()(inputs_embeds=embedded, use_cache=False).last_hidden_state
        model.get_output_embeddings()(hidden[:, -1])

    times: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in ("attention", "prefill")}
    memory: dict[str, int | None] = {}
    for turn in range(repeats + 1):
        for way, using in ways.items():
            with using(), peak_bytes(model.device) as held:
                whole = timed(read, model.device)
            with attention_seconds(model) as watch, using():
                read()
            if turn:  # the first round warms up
                times["prefill"][way].append(whole)
                times["attention"][way].append(watch())
                memory[way] = held()
    row: dict[str, Compared] = {}
    spent = {name: Times.of(both["dense"]).seconds for name, both in times.items()}
    for name, both in times.items():
        share = 1.0 if name == "attention" else spent["attention"] / spent["prefill"]
        row[name] = replace(Compared.of(both), ideal=promise(share, rows=length))
    if pictures is not None:
        row["first"] = _first(model, pictures(length), ways, spent["attention"], promise, repeats)
    decode, cache = _decoding(model, hybrid, embedded, repeats)
    return SpeedAt(length, backend, **row, decode=decode, cache=cache, memory=Sizes(**memory))


def _first(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    ways: dict[str, Way],
    attention: float,
    promise: Callable[..., float],
    repeats: int,
) -> Compared:
    both: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(repeats + 1):
        for way, using in ways.items():
            with using():
                spent = timed(lambda: model(**inputs, use_cache=False, logits_to_keep=1), model.device)
            if turn:
                both[way].append(spent)
    found, tokens = Compared.of(both), inputs["input_ids"].shape[1]
    part = min(1.0, attention / found.dense.seconds)
    return replace(found, ideal=promise(part, rows=tokens), tokens=tokens)


def _decoding(model: PreTrainedModel, hybrid: Sparsifying, embedded: Tensor, repeats: int) -> tuple[Compared, Sizes]:
    """Time and memory of a cache: with all keys, and with those that are read."""
    both: dict[str, list[float]] = {way: [] for way in WAYS}
    memory: dict[str, int] = {}
    for way in WAYS:
        with hybrid() if way == "hybrid" else nullcontext() as sparse:
            cache: Cache = DynamicCache() if sparse is None else sparse.cache()
            model.get_decoder()(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
            for turn in range(1 + repeats * STEPS):
                spent = timed(partial(_step, model, embedded[:, -1:], cache), model.device)
                if turn:
                    both[way].append(spent)
            memory[way] = _held(cache)
    return Compared.of(both), Sizes(**memory)


def _held(cache: Cache) -> int:
    """The bytes of all keys and values."""
    if isinstance(cache, SinkWindowCache):
        return cache.nbytes
    kept = (one for layer in cache.layers for one in (getattr(layer, "keys", None), getattr(layer, "values", None)))
    return sum(one.nbytes for one in kept if isinstance(one, Tensor))


def _step(model: PreTrainedModel, token: Tensor, cache: Cache) -> None:
    hidden = model.get_decoder()(inputs_embeds=token, past_key_values=cache, use_cache=True).last_hidden_state
    model.get_output_embeddings()(hidden)
