"""The conditions of a trial, by name, and the answers under each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor

from corelib.core.heads import HeadSet
from corelib.models.batch import Batch
from corelib.models.vlm import VLM
from corelib.replay.prefix_cache import replay_from_prefix
from corelib.sparse import Window, sparsify
from corelib.sparse.oracle_topk import oracle_topk

DENSE, NONE = "dense", HeadSet()  # names of two conditions; a set of dense heads is the name of its own


@dataclass(frozen=True)
class TrialCondition:
    """What questions are answered under."""

    opened: Callable[[], AbstractContextManager[object]]
    begins: int = 0  # the layer from which on it differs from the one that is kept
    kept: bool = False
    headline: bool = False  # answered by all questions


def list_conditions(
    vlm: VLM,
    tops: Sequence[HeadSet],
    controls: Sequence[HeadSet],
    window: Window,
    widths: Sequence[int],
    most: Sequence[int],
) -> Mapping[Hashable, TrialCondition]:
    """By name, in the order in which they run: dense first, which all are compared with, and the one that is kept
    before those that begin where it ends."""
    made: dict[Hashable, TrialCondition] = {DENSE: TrialCondition(nullcontext, headline=True)}
    for one in dict.fromkeys((NONE, *tops, *controls)):
        made[one] = TrialCondition(
            partial(sparsify, vlm.model, one, window),
            begins=min((head.layer for head in one), default=0),
            kept=one == NONE,
            headline=one in (NONE, tops[0]),
        )
    for number, wide in enumerate(widths):
        opened = partial(sparsify, vlm.model, NONE, Window(wide, window.sinks))
        made.setdefault(("window", wide), TrialCondition(opened, headline=number == 0))
    for number in most:
        made.setdefault(("best keys", number), TrialCondition(partial(oracle_topk, vlm.model, number)))
    return made


def answer_trial(
    vlm: VLM, batch: Batch, conditions: Iterable[TrialCondition], all_of_them: bool
) -> Bool[Tensor, "sample condition"]:
    """Which questions are answered rightly; False under conditions that are not tried."""
    ask, found = replay_from_prefix(vlm, batch), []
    for one in conditions:
        if not (all_of_them or one.headline):
            found.append(torch.zeros(len(batch.samples), dtype=torch.bool))
            continue
        with one.opened():
            found.append(ask(one.begins, keep=one.kept).correct)
    return torch.stack(found, 1)
