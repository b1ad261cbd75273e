"""Pairs of questions about one picture that differ in one word: what activation patching goes between.

pairs = one_word_pairs(task("scenes").draw("test", samples=24, questions=12))
pairs[0].sample.question, pairs[0].rival.question       # digit on red square ?   digit on red circle ?
"""

from __future__ import annotations

from collections.abc import Iterable

from corelib.experiments.rivals import RivalPair
from corelib.tasks.sample import Sample


def one_word_pairs(samples: Iterable[Sample], kind: str | None = None) -> list[RivalPair]:
    """Each sample with the first other one about the same picture whose question differs in exactly one word and whose
    answer begins with another character; only of one `kind` of question, if it is named. Samples without one are left
    out.

    >>> from corelib.tasks import task
    >>> pairs = one_word_pairs(task("scenes").questions_for("test", 0, 0, 12), kind="attribute")
    >>> pairs[0].sample.question, pairs[0].rival.question
    ('digit on cyan triangle ?', 'digit on cyan diamond ?')
    """
    given = [one for one in samples if kind in (None, one.kind)]
    about: dict[str, list[Sample]] = {}
    for one in given:
        about.setdefault(one.cluster, []).append(one)
    found = []
    for index, one in enumerate(given):
        rival = next((other for other in about[one.cluster] if differs_in_one_word(one, other)), None)
        if rival is not None:
            found.append(RivalPair(index, one, rival))
    return found


def differs_in_one_word(one: Sample, other: Sample) -> bool:
    """Do two questions differ in exactly one word, and their answers in the first character?"""
    mine, theirs = one.question.split(), other.question.split()
    return (
        one.kind == other.kind
        and len(mine) == len(theirs)
        and sum(a != b for a, b in zip(mine, theirs, strict=True)) == 1
        and one.answer[:1] != other.answer[:1]
    )
