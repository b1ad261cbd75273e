"""The second step: what is fetched at the last word of the description is read there by the answer's row.

    found = find_relays(vlm, chosen_on, tested_on, scores.top())
    found.base.moved, found.cut_all.moved       # the gaze moved at that word alone; and no head reads that word later

The gaze of the retrieving heads is moved at one row, the last word of the description. Some answers then become the
rival's (`redirection.py`): that much travels through the word. By which heads? Now the row of the answer may no longer
look at the word, through one head after another (a path knockout). The heads through which it travels are those without
whose look fewer answers move. They are chosen on one split and tested together on another, beside as many others of
their layers.

Source: path knockout as in Geva et al. (2023), arXiv:2304.14767; the two rows are ours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from corelib.analysis.controls import layer_matched
from corelib.analysis.stats import bootstrap_interval, estimate, p_value
from corelib.attention.intervene import knockout
from corelib.attention.redirect import redirect
from corelib.core.errors import BadInput, NoControl
from corelib.core.head_scores import ordered
from corelib.core.heads import Heads, HeadSet
from corelib.core.progress import Progress, silent
from corelib.core.results import Result, software
from corelib.core.values import Estimate, ModelFacts, Software, Table, TaskFacts
from corelib.experiments.answer_sweep import compute_dtype
from corelib.experiments.reach import require_reach
from corelib.experiments.rivals import Asked, rival_pairs
from corelib.models.vlm import VLM
from corelib.replay.from_question import Replay, replay_from_question
from corelib.tasks import Draw

COUNTS = (1, 2, 4, 8)
DRAWS = 20


@dataclass(frozen=True, repr=False)
class Relays(Result):
    """The heads through which the answer's row reads a word at which something was fetched."""

    schema: ClassVar[str] = "corelib/relays/1"

    model: ModelFacts
    task: TaskFacts  # tested on; counted: answered rightly without any program
    chosen_on: TaskFacts
    core: Heads  # whose gaze is moved
    row: int  # of the word, counted from the end of the prompt
    moved: Estimate  # the gaze moved at that row alone
    both: Estimate  # at that row and at the answer's
    cut_all: Estimate  # at that row alone, and no head of the answer's row sees it
    single: Table  # [layer][head]: moved where the split was chosen on, if this head's look alone is cut
    relays: tuple[Heads, ...]  # the best 1, 2, 4, 8 by that
    cut: tuple[Estimate, ...]  # moved with these cut
    only: tuple[Estimate, ...]  # and with all others cut
    null_of: int  # how many heads the null is of: those of the largest set that others of its layers can match; 0: none
    null: tuple[float, ...]  # as many others, of the same layers
    p: float  # how often these cost as much: (1 + #) / (1 + draws); 1 without a null
    software: Software
    seconds: float


def find_relays(
    vlm: VLM, chosen_on: Draw, tested_on: Draw, core: HeadSet, *, row: int = -3, progress: Progress = silent
) -> Relays:
    """Scan all heads on one draw, and test the best on another. Samples need answers of one token, and questions whose
    word at `row` (from the end of the prompt) ends the description.

    Raises: BadInput if the two draws share samples, an answer has several tokens, or some heads do not reach the
    evidence.
    """
    began = time.perf_counter()
    if (chosen_on.split, chosen_on.seed) == (tested_on.split, tested_on.seed):
        raise BadInput("relays are chosen and tested on the same samples: give two splits or seeds")
    require_reach(vlm, chosen_on)
    first = min(head.layer for head in core)
    every = HeadSet((layer, head) for layer in range(first, vlm.num_layers) for head in range(vlm.num_heads))
    scan, test = _Moving.of(vlm, chosen_on, core, row), _Moving.of(vlm, tested_on, core, row)
    single = np.full((vlm.num_layers, vlm.num_heads), float(scan.moved(HeadSet()).mean()))
    for number, head in enumerate(every):
        single[head.layer, head.index] = scan.moved(HeadSet([head])).mean()
        progress(number + 1, len(every))
    best = [head for head in ordered(-single) if head.layer >= first]
    relays = tuple(HeadSet(best[:count]) for count in COUNTS)
    interval = partial(bootstrap_interval, clusters=test.clusters, seed=tested_on.seed)

    def share(values: np.ndarray) -> Estimate:
        return estimate(values, interval)

    cut = tuple(share(test.moved(one)) for one in relays)
    place, others = _others(vlm, relays)
    null = tuple(float(test.moved(one).mean()) for one in others)
    return Relays(
        model=vlm.facts,
        task=tested_on.facts(questions=tested_on.questions, counted=len(test.clusters)),
        chosen_on=chosen_on.facts(questions=chosen_on.questions, counted=len(scan.clusters)),
        core=core,
        row=row,
        moved=share(test.moved(HeadSet())),
        both=share(test.moved(HeadSet(), rows=(row, -1))),
        cut_all=share(test.moved(every)),
        single=tuple(tuple(round(float(value), 4) for value in line) for line in single),
        relays=relays,
        cut=cut,
        only=tuple(share(test.moved(every - one)) for one in relays),
        null_of=COUNTS[place] if others else 0,
        null=null,
        p=p_value(-cut[place].value, [-one for one in null]) if null else 1.0,
        software=software(precision=compute_dtype(vlm)),
        seconds=round(time.perf_counter() - began, 2),
    )


def _others(vlm: VLM, relays: Sequence[HeadSet]) -> tuple[int, list[HeadSet]]:
    """Sets of other heads of the same layers, for the largest set that has some; and which set that is."""
    for place in reversed(range(len(relays))):
        try:
            return place, layer_matched(relays[place], vlm.num_layers, vlm.num_heads, draws=DRAWS)
        except NoControl:
            continue
    return 0, []


@dataclass(frozen=True)
class _Moving:
    """Batches of pairs, and where their rows are; only pairs that are answered rightly without any program count."""

    vlm: VLM
    core: HeadSet
    row: int
    batches: Sequence[tuple[Asked, Replay, Bool[Tensor, " sample"], Bool[Tensor, " sample"]]]
    clusters: list[str]

    @classmethod
    def of(cls, vlm: VLM, draw: Draw, core: HeadSet, row: int) -> _Moving:
        batches, clusters = [], []
        for indices in draw.batches(32):
            pairs = rival_pairs(draw.take(indices))
            if not pairs:
                continue
            own = Asked.of(vlm, pairs)
            if int(own.batch.lengths[:, 2].max()) > 1:
                raise BadInput("an answer has several tokens: relays are found where answers are one token")
            other = Asked.of(vlm, pairs, rivals=True)
            answer = replay_from_question(vlm, own.batch)
            first = other.batch.tokens[other.batch.rows("last").roll(1, 1)].cpu()
            counts = answer().correct & own.apart.cpu()
            batches.append((own, answer, first, counts))
            clusters += [pair.sample.cluster for pair, one in zip(pairs, counts.tolist(), strict=True) if one]
        return cls(vlm, core, row, batches, clusters)

    def moved(self, cut: HeadSet, rows: tuple[int, ...] | None = None) -> np.ndarray:
        """Whose answers move, if the gaze is moved at `rows` (left out: the word's alone), and the answer's row does
        not see the word through the heads that are `cut`."""
        found = []
        for own, answer, first, counts in self.batches:
            last = own.batch.rows("last")
            word = last.roll(self.row + 1, 1)
            marked = torch.stack([last.roll(one + 1, 1) for one in rows or (self.row,)]).any(0)
            begin = min(head.layer for head in (*self.core, *cut))
            with (
                redirect(self.vlm.model, self.core, own.evidence, own.target, marked),
                knockout(self.vlm.model, word, last, cut),
            ):
                told = answer(begin)
            assert told.guesses is not None  # replays give them
            found.append((told.guesses[:, 0] == first)[counts].double().numpy())
        return np.concatenate(found)
