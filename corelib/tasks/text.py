"""Tasks without a picture, for specificity: does ablating visual heads also hurt text?

needle:      red square 7 ; blue star 3 ; … digit on blue star ?   → 3     (retrieval, from text)
arithmetic:  3 plus 4 ?                                             → 7     (nothing to retrieve)
recital:     red square: 7⏎blue star: 3⏎ … blue star:               → 3     (retrieval, as a text that goes on)

The bundled models are trained on the first two. The third is for a language model that nobody has taught to answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from corelib.tasks.base import Picture, Question, Task
from corelib.tasks.shapes import palette


@dataclass(frozen=True, kw_only=True)
class Needle(Task):
    """Key → value lists in text. The evidence is the entry that is asked for. Difficulty: the number of `entries`.

    >>> Needle(entries=2).sample("test", seed=0, index=0).context
    'green diamond 6 ; green star 5 ;'
    """

    name: ClassVar[str] = "needle"

    entries: int = 8

    @property
    def kinds(self) -> dict[str, float]:
        return {"needle": 1.0}

    def picture(self, rng: np.random.Generator, split: str) -> Picture:
        self._require(1 <= self.entries <= 36, f"entries must be 1…36, got {self.entries}")
        pairs = [(c, s, int(rng.integers(10))) for c, s in palette(rng, self.entries)]
        entries = [f"{c} {s} {d}" for c, s, d in pairs]
        context = " ".join(f"{entry} ;" for entry in entries)
        starts = [context.index(entry) for entry in entries]  # no pair comes twice
        questions = tuple(
            Question("needle", f"digit on {c} {s} ?", str(d), spans=((start, start + len(entry)),))
            for (c, s, d), entry, start in zip(pairs, entries, starts, strict=True)
        )
        return Picture((), questions, context=context)


@dataclass(frozen=True, kw_only=True)
class Recital(Task):
    """A list that is said once more, in reverse and without one entry, which is asked for last: a text that a language
    model goes on with by itself. The evidence is that entry in the list. Difficulty: the number of `entries`.

    >>> sample = Recital(entries=3).sample("test", seed=0, index=0)
    >>> print(sample.context + sample.question)
    red diamond: 5
    yellow square: 1
    yellow diamond: 3
    <BLANKLINE>
    yellow diamond: 3
    yellow square: 1
    red diamond:
    """

    name: ClassVar[str] = "recital"

    entries: int = 8

    @property
    def kinds(self) -> dict[str, float]:
        return {"recital": 1.0}

    def picture(self, rng: np.random.Generator, split: str) -> Picture:
        self._require(1 <= self.entries <= 36, f"entries must be 1…36, got {self.entries}")
        keys = [f"{c} {s}:" for c, s in palette(rng, self.entries)]
        digits = [str(rng.integers(10)) for _ in keys]
        entries = [f"{key} {digit}" for key, digit in zip(keys, digits, strict=True)]
        asked = int(rng.integers(self.entries))
        again = [entry for number, entry in enumerate(entries) if number != asked][::-1]
        context = "".join(f"{line}\n" for line in [*entries, "", *again])
        start = context.index(entries[asked])
        span = (start, start + len(entries[asked]))
        return Picture((), (Question("recital", keys[asked], digits[asked], spans=(span,)),), context=context)


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Task):
    """Sums of two digits below ten, the answer balanced: the text task that needs no retrieval.

    >>> sample = Arithmetic().sample("test", seed=0, index=0)
    >>> sample.question, sample.answer
    ('5 plus 2 ?', '7')
    """

    name: ClassVar[str] = "arithmetic"

    @property
    def kinds(self) -> dict[str, float]:
        return {"sum": 1.0}

    def picture(self, rng: np.random.Generator, split: str) -> Picture:
        questions = []
        for _ in range(4):
            total = int(rng.integers(10))
            first = int(rng.integers(total + 1))
            questions.append(Question("sum", f"{first} plus {total - first} ?", str(total)))
        return Picture((), tuple(dict.fromkeys(questions)))
