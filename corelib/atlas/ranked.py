"""What every measurement of the atlas begins with: the task that tests heads, and the committed ranking of heads."""

from __future__ import annotations

from corelib.atlas import library
from corelib.core.head_scores import HeadScores
from corelib.models.vlm import VLM
from corelib.tasks import Task, task


def tested_task(vlm: VLM, domain: str) -> Task:
    """The task that tests heads in a domain. Of clips the bridge is asked for digits alone, as its card says: its tower
    states what is beside each thing, so that the frame can be told without the evidence (chapter 6)."""
    return task(domain, **vlm.study.difficulty.get(domain, {}))


def ranking(vlm: VLM, domain: str, kind: str | None = None) -> HeadScores:
    """The committed RAM of all heads: of one kind of question, if it is named or if the model is asked for no other."""
    cell, kind = library.cell(vlm.name, domain), kind or vlm.study.kind.get(domain)
    return cell.scores() if kind is None else cell.of_kind(kind)
