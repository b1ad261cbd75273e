"""What is tried where few heads are dense: the cells of the trial, how long prompts are made, and what else is asked.

The rule names the headline cells ("Rules of the second round"); all others are described and not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from corelib.atlas import verdicts
from corelib.tasks import Setting


@dataclass(frozen=True)
class TrialCell:
    """One cell of the trial: a prompt, a window, how much is asked, and how many heads are dense."""

    domain: str
    width: int
    samples: int
    questions: int  # about each set of pictures
    doses: tuple[float, ...] = (0.05,)  # the first is the headline's
    draws: int = 3  # matched sets at the first dose
    few: int = 3  # … at the others
    few_on: int | None = None  # samples for all but the headline
    best_keys: bool = False
    length: str = ""  # of `PROMPTS`; empty: the usual one

    @property
    def name(self) -> str:
        """What its result is called."""
        return "-".join(filter(None, (self.domain, self.length, f"w{self.width}")))


DOSES = (0.05, 0.01, 0.02, 0.10, 0.20)
_headline = partial(TrialCell, doses=DOSES, draws=20, best_keys=True)
_other = partial(TrialCell, best_keys=True)
SHORT = (  # the headline of each domain first; samples are more than the questions that will count
    _headline("scenes", 8, 3200, 16, few_on=800),
    _headline("documents", 32, 2880, 16, few_on=800),
    _headline("video", 16, 2640, 12, few_on=720),
    _other("scenes", 16, 400, 16),
    *(_other("documents", width, 400, 16) for width in (8, 16, 64)),
    *(_other("video", width, 360, 12) for width in (8, 32)),
)
PROMPTS: dict[str, dict[str, dict[str, dict[str, Setting]]]] = {  # model → about so many tokens → domain: difficulty
    "bridge-long": {
        "1k": {"documents": {"pages": 14}, "scenes": {"pictures": 24, "relational": 0.0}},
        "2k": {"documents": {"pages": 28}, "scenes": {"pictures": 48, "relational": 0.0}},
        "4k": {"documents": {"pages": 56}, "scenes": {"pictures": 98, "relational": 0.0}},
        "7k": {"documents": {"pages": 99}, "scenes": {"pictures": 160, "relational": 0.0}},
    },
    "mini-s-long": {"2k": {"documents": {"pages": 40}, "scenes": {"pictures": 50}}},
}
LONG_DOMAINS = ("documents", "scenes")
LONG_CELLS = (
    *(TrialCell(domain, 256, 2400, 24, draws=20, few=0, few_on=600, length="4k") for domain in LONG_DOMAINS),
    *(
        TrialCell(domain, 256, 768, 24, doses=DOSES, length=length)
        for length in ("1k", "2k")
        for domain in LONG_DOMAINS
    ),
    *(TrialCell(domain, 256, 768, 24, draws=0, few=0, length="7k") for domain in LONG_DOMAINS),
    *(TrialCell(domain, width, 768, 24, length="2k") for width in (128, 512) for domain in LONG_DOMAINS),
)
TIMED = {"4k": 4096, "7k": 7168}  # tokens at which the rule asks for a speed
TRIED_ON = {"validate": 48, "test": 480}  # questions
RESTS = {  # model → domain, length, window, share of dense heads, questions about each row of pictures
    "bridge": (("documents", "", 32, 0.05, 16),),
    "bridge-long": tuple(
        (domain, length, width, 0.05, 24) for domain in LONG_DOMAINS for length, width in (("1k", 128), ("2k", 256))
    ),
    "mini-s-long": tuple((domain, "2k", 256, 0.20, 24) for domain in LONG_DOMAINS),  # 5 % are three heads
}
CHOSEN = {"bridge-long": ("1k", 128, 0.05), "mini-s-long": ("2k", 256, 0.10)}
TRIED = {"bridge": SHORT, "bridge-long": LONG_CELLS}
RANKED_ON = {"1k": 64, "2k": 48, "4k": 32, "7k": 16}  # samples of `select`, each a pass of its own


def prompt(model: str, domain: str, length: str) -> dict[str, Setting]:
    """How difficult a task must be for prompts of this length; without a length, as usual."""
    return PROMPTS[model][length][domain] if length else {}


def headline(model: str, domain: str) -> TrialCell | None:
    """The cell of a model in which a domain is judged; None if there is none.

    >>> headline("bridge", "scenes").name, headline("bridge-long", "documents").name
    ('scenes-w8', 'documents-4k-w256')
    """
    mine = (one for one in TRIED.get(model, ()) if one.domain == domain and one.draws >= verdicts.FEWEST)
    return next(mine, None)
