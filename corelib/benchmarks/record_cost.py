"""What it costs to measure RAM: seconds and bytes beside those of a plain forward pass.

Three ways to run a language model over a sequence, in turn, medians of several runs after a warm-up:

    plain    the pass alone, with transformers' own `sdpa` attention
    record   the same, with the attention of a few rows read beside it (`attention/record.py`)
    eager    attention written out, `output_attentions=True`, and the few rows taken from the maps: what is published

Bytes are the most that a pass holds at once beyond what was there before it. Eager maps grow with the square of the
length: where they would not fit they are not tried, and the file says how many bytes they would take.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from corelib.attention.interface import attention_implementation, attention_modules
from corelib.attention.record import record
from corelib.benchmarks.timing import Times, machine_facts, peak_bytes, timed
from corelib.core.errors import BadInput
from corelib.core.memory import check_fits, free_memory, working_bytes
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import BenchFacts, Machine, Software
from corelib.metrics.ram import ram

ROWS, EVIDENCE = 4, 32  # tokens: the last ones look, those in the middle are looked at


@dataclass(frozen=True)
class Spent(Times):
    """Several runs, and the most bytes that one held; None where the system does not tell."""

    bytes: int | None


@dataclass(frozen=True)
class TooLarge:
    """Not run: it would not fit."""

    would_need: Annotated[int, Field(alias="would need")]  # bytes


@dataclass(frozen=True)
class CostAt:
    """The three ways at one length."""

    tokens: int
    plain: Spent
    record: Spent
    eager: Spent | TooLarge


@dataclass(frozen=True, repr=False)
class RecordCost(Result):
    """Seconds and bytes of the three ways, by length of the sequence."""

    schema: ClassVar[str] = "corelib/cost/1"

    model: BenchFacts
    rows: int  # whose attention is read
    repeats: int
    lengths: tuple[CostAt, ...]
    machine: Machine
    software: Software
    seconds: float


def measure_record_cost(
    model: PreTrainedModel,
    lengths: Sequence[int],
    *,
    facts: BenchFacts,
    repeats: int = 3,
    progress: Progress = silent,
) -> RecordCost:
    """Run a model with a decoder over sequences of the `lengths`, in tokens, in all three ways.

    Raises: BadInput if a length is too short, or will not fit in memory even in a plain pass.
    """
    began = time.perf_counter()
    if not lengths or min(lengths) < 2 * EVIDENCE or repeats < 1:
        raise BadInput(f"lengths {list(lengths)}, {repeats} repeats: give {2 * EVIDENCE} tokens or more, and 1 repeat")
    for length in lengths:
        check_fits(f"{length} tokens", working_bytes(model, length), model.device, "take fewer tokens or fewer layers")
    found = []
    for number, length in enumerate(lengths):
        progress(number, len(lengths))
        found.append(_at(model, length, repeats))
    progress(len(lengths), len(lengths))
    return RecordCost(
        model=facts,
        rows=ROWS,
        repeats=repeats,
        lengths=tuple(found),
        machine=machine_facts(model.device),
        software=software(),
        seconds=round(time.perf_counter() - began, 2),
    )


def ways(model: PreTrainedModel, length: int) -> dict[str, Callable[[], Float[Tensor, "layer head row"] | None]]:
    """The three ways to run over a sequence, as functions; those that read RAM give it back."""
    config = model.config.get_text_config()
    embedded = torch.randn(1, length, config.hidden_size, dtype=model.dtype, device=model.device)
    rows, evidence = torch.zeros(2, 1, length, dtype=torch.bool, device=model.device)
    rows[:, -ROWS:] = True
    evidence[:, length // 2 - EVIDENCE // 2 : length // 2 + EVIDENCE // 2] = True

    def read(**options: bool) -> BaseModelOutputWithPast:
        found: BaseModelOutputWithPast = model.get_decoder()(inputs_embeds=embedded, use_cache=False, **options)
        model.get_output_embeddings()(found[0][:, -1])
        return found

    def plain() -> None:
        read()

    def recorded() -> Tensor:
        with record(model, rows, reduce=lambda call, attention: ram(attention, evidence)) as recorded:
            read()
        return recorded.stack()[:, 0]

    def eagerly() -> Tensor:
        with attention_implementation(model, "eager"):
            maps = read(output_attentions=True).attentions or ()
        return torch.stack([ram(one[:, :, -ROWS:].float(), evidence)[0] for one in maps])

    return {"plain": plain, "record": recorded, "eager": eagerly}


def eager_bytes(model: PreTrainedModel, length: int) -> int:
    """What the maps of all layers take, and one layer's softmax in single precision."""
    heads: int = model.config.get_text_config().num_attention_heads
    return length**2 * heads * (len(attention_modules(model)) * model.dtype.itemsize + 8)


def _at(model: PreTrainedModel, length: int, repeats: int) -> CostAt:
    needed, free = eager_bytes(model, length), free_memory(model.device)
    chosen = ways(model, length)
    if free is not None and needed > 0.9 * free:
        del chosen["eager"]
    times: dict[str, list[float]] = {name: [] for name in chosen}
    most: dict[str, list[int]] = {name: [] for name in chosen}
    for turn in range(repeats + 1):
        for name, run in chosen.items():
            with peak_bytes(model.device) as held:
                spent = timed(run, model.device)
            if turn:  # the first round warms up
                times[name].append(spent)
                most[name] += [one for one in [held()] if one is not None]
    row: dict[str, Spent] = {}
    for name, mine in times.items():
        held_bytes = round(statistics.median(most[name])) if most[name] else None
        row[name] = Spent(**vars(Times.of(mine)), bytes=held_bytes)
    return CostAt(length, row["plain"], row["record"], row.get("eager", TooLarge(needed)))
