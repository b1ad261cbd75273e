"""What the bundled models are shown, and when.

**Mini models**: first to see, then to find, then to relate, then everything.

*Seeing*: pictures of few things, and no question, only "list what is there". A question names what it asks for, so a
caption after it can be copied from the question: the model would never learn to read.
*Placing* and *polishing*: the vision tower alone learns what stands where and beside what (`tower_supervision.py`), at
last at a falling rate. Then it is finished, and stays as it is.
*Finding*: behind that tower, a new language model begins; one that has learned to list gets stuck at one attribute. One
attribute alone leaves two or three candidates, because easier pictures reward shortcuts. Batches are large: small ones
do not get past one attribute either.
*Relating*: from a thing that was found to what stands beside it, one side and one axis after the other (all at once,
the model finds *a* neighbour and stays there), where many things stand; from one page to two; and to the frame a thing
is in. That is asked with several guests a frame: with one, each answer rules a frame out for the next question.
*Everything*: all tasks together, each on a ladder that ends beyond its default difficulty. The text tasks come only
now: a model that first learns to copy from text does not look.

**The bridge**: its language model can read, and finds things in text; what is new is the picture.

*Placing* and *polishing* teach the tower as above, from nothing, on fuller pictures. *Quieting*: nothing behind the
bridge's connector keeps its tokens to one length, so the tower has learned to deny all that does not hold, loudly; now
it learns to say the same facts no louder than needed.
*Finding*: what the tower states is put into the language model's words, once (`connector_init.py`); then the language
model, through its adapters, learns to find one thing among few. It reads each question as if it stood alone
(`batches.py`).
*Fields*, *beside*, *frames*: then one new kind of question at a time, alone but for a reminder of the older ones in
every fourth step. Pages always have eight fields: on a smaller canvas SmolVLM puts patches at other places of its table
of positions, and this tower cannot read there. Sides come one after the other: of two at once, one was learned.
*Reading*: all tasks together, the text tasks among them, so that it stays a language model.

**Adapting**: behind the finished tower and connector of the bridge, a short time in which new adapters alone learn, one
thing among few and one page: long enough to see which heads come to look (`inheritance.py`).

**Albums**: the finished bridge goes on with longer and longer rows of pages and pictures, each read by itself with many
questions behind it. Pages are numbered as an excerpt, so that a number is no place, and in half of the rows positions
are left out between them, so that far looks are learned on short rows.

**Windowed**: a model for long sequences goes on with most of its heads short-sighted (`window_adaptation.py`).

**Long**: a finished mini model goes on with more and more pages, and pictures, in one sequence, up to about 4,000
visual tokens. Its tower stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from corelib.tasks import Setting
from corelib.tasks.scenes import RELATIONS
from corelib.training.curriculum import Rung, Stage

SIDES = tuple(RELATIONS)
LADDER = (("left of",), ("left of", "right of"), ("above",), ("above", "below"))  # one axis after the other


def _scenes(
    objects: int,
    side: int,
    pictures: int,
    questions: int,
    relational: float = 0.3,
    sides: tuple[str, ...] = SIDES,
) -> Rung:
    shown = {"objects": objects, "rows": side, "columns": side}
    difficulty: dict[str, Setting] = {**shown, "relational": relational, "relations": sides}
    return Rung(difficulty=difficulty, pictures=pictures, questions=questions)


def _pages(pages: int, fields: int, pictures: int, questions: int) -> Rung:
    return Rung(difficulty={"pages": pages, "fields": fields}, pictures=pictures, questions=questions)


def _clip(frames: int, pictures: int, questions: int, **more: Setting) -> Rung:
    return Rung(difficulty={"frames": frames, **more}, pictures=pictures, questions=questions)


def _list(entries: int, pictures: int = 16) -> Rung:
    return Rung(difficulty={"entries": entries}, pictures=pictures, questions=6)


SEEING = Stage(
    {
        "scenes": (_scenes(1, 1, 64, 0), _scenes(2, 2, 48, 0), _scenes(4, 3, 32, 0)),
        "documents": (_pages(1, 1, 64, 0), _pages(1, 2, 48, 0), _pages(1, 4, 32, 0)),
    },
    goal=("scenes", "documents"),
)
_EVERYWHERE = {"scenes": (_scenes(12, 6, 24, 0),), "documents": (_pages(1, 8, 16, 0),), "video": (_clip(2, 16, 0),)}
PLACING = Stage(_EVERYWHERE, steps=1000, fresh=True, learns="tower")
POLISHING = Stage(_EVERYWHERE, steps=400, fresh=True, learns="tower", cooling=True)
FINDING = Stage(
    {
        "scenes": (_scenes(6, 3, 32, 6, relational=0.0),),
        "documents": (_pages(1, 4, 24, 4), _pages(1, 8, 20, 8)),
        "video": (_clip(2, 24, 6),),
    },
    steps=430,
    fresh=True,
    learns="language",
)
RELATING = Stage(
    {
        "scenes": (
            *(_scenes(20, 6, 20, 15, relational=0.75, sides=sides) for sides in LADDER),
            _scenes(12, 6, 20, 12, relational=0.6),
        ),
        "documents": (_pages(1, 8, 20, 8), _pages(2, 8, 16, 12), _pages(2, 8, 6, 12)),
        "video": (_clip(4, 24, 12, regulars=1, guests=3, timed=0.8), _clip(6, 10, 10), _clip(6, 5, 10)),
    },
    goal=("scenes", "documents", "video"),
    learns="language",
)
EVERYTHING = Stage(
    {
        "scenes": (_scenes(12, 6, 16, 12), _scenes(14, 6, 16, 12)),
        "documents": (_pages(2, 4, 16, 8), _pages(2, 8, 12, 10), _pages(2, 10, 12, 10)),
        "video": (_clip(4, 12, 9), _clip(6, 12, 10)),
        "needle": tuple(_list(entries) for entries in (4, 6, 8, 10)),
        "arithmetic": (Rung(difficulty={}, pictures=4, questions=4),),
    },
    learns="language",
)
MINI = (SEEING, PLACING, POLISHING, FINDING, RELATING, EVERYTHING)


_MANY = {**_EVERYWHERE, "scenes": (_scenes(20, 6, 24, 0),)}
BRIDGE_PLACING = Stage(_MANY, steps=1500, learns="tower")
BRIDGE_POLISHING = replace(POLISHING, ladders=_MANY)
QUIETING = Stage(_MANY, steps=400, learns="tower", cooling=True, pace=0.5, quiet=0.003)
_adapting = partial(Stage, learns="language", pace=0.5, lists=False, rests=True)
BRIDGE_FINDING = _adapting(
    {
        "scenes": (_scenes(4, 3, 16, 6, relational=0.0), _scenes(8, 3, 16, 8, relational=0.0)),
    },
    goal=("scenes",),
    fresh=True,
    wording=True,
)
FIELDS = _adapting(
    {
        "documents": (_pages(1, 8, 14, 8),),
        "scenes": (_scenes(8, 3, 12, 9, relational=0.0),),
    },
    goal=("documents",),
)
BESIDE = _adapting(
    {
        "scenes": (
            *(_scenes(20, 6, 9, 10, relational=0.9, sides=(side,)) for side in SIDES),
            _scenes(20, 6, 6, 20, relational=0.85),
        ),
        "documents": (_pages(1, 8, 6, 8),),
    },
    goal=("scenes",),
    enough=0.8,  # not every digit is read among 20 things: more would take long
)
FRAMES = _adapting(
    {
        "video": (_clip(4, 10, 12, regulars=1, guests=3, timed=0.8),),
        "scenes": (_scenes(20, 6, 4, 20, relational=0.6),),
        "documents": (_pages(2, 8, 4, 16),),
    },
    goal=("video",),
)
READING = _adapting(
    {
        "scenes": (_scenes(12, 6, 6, 16, relational=0.5),),
        "documents": (_pages(2, 8, 4, 16),),
        "video": (_clip(6, 4, 16),),
        "needle": tuple(_list(entries, pictures=2) for entries in (4, 8, 10)),
        "arithmetic": (Rung(difficulty={}, pictures=2, questions=4),),
    },
    steps=513,
)
_NEEDLES = {"needle": READING.ladders["needle"][-1:]}
KEEPING = replace(READING, ladders={**READING.ladders, **_NEEDLES}, steps=None, pace=0.25, keeps=8)
BRIDGE = (BRIDGE_PLACING, BRIDGE_POLISHING, QUIETING, BRIDGE_FINDING, FIELDS, BESIDE, FRAMES, READING, KEEPING)

ADAPTING = (
    Stage(
        {"scenes": (_scenes(8, 3, 4, 9, relational=0.0),), "documents": (_pages(1, 8, 4, 8),)},
        learns="adapters",
        lists=False,
    ),
)


def _album(pictures: int, drawn: int, questions: int) -> Rung:
    return Rung(difficulty={"pictures": pictures}, pictures=drawn, questions=questions)


LONG = (
    Stage(
        {
            "documents": (
                *(_pages(pages, 8, 4, 16) for pages in (4, 8, 12)),
                *(_pages(pages, 8, 2, 48) for pages in (20, 32, 52, 84)),
            ),
            "scenes": (
                *(_album(pictures, 4, 16) for pictures in (2, 6, 12)),
                *(_album(pictures, 2, 48) for pictures in (24, 42, 70, 114)),
            ),
            "video": (_clip(6, 4, 10),),
            "needle": (_list(10, pictures=4),),
        },
        learns="language",
        pace=0.5,
    ),
)

WINDOWED = (
    Stage(
        {"documents": (_pages(20, 8, 2, 24),), "scenes": (_album(24, 2, 24),)}, learns="language", pace=0.5, lists=False
    ),
)

EXCERPT = 99  # pages of the longest document, and pictures of the longest album that is trained
_PAGES = ((4, 32), (8, 48), (14, 64), (28, 96), (56, 96), (99, 160))  # in a row, and the questions about them
_PICTURES = ((6, 32), (12, 48), (24, 64), (48, 96), (98, 96), (160, 160))
ALBUMS = (
    Stage(
        {
            "documents": tuple(
                Rung(difficulty={"pages": pages, "excerpt_of": max(EXCERPT, pages)}, pictures=1, questions=asked)
                for pages, asked in _PAGES
            ),
            "scenes": tuple(
                Rung(
                    difficulty={"pictures": pictures, "excerpt_of": max(EXCERPT, pictures), "relational": 0.1},
                    pictures=1,
                    questions=asked,
                )
                for pictures, asked in _PICTURES
            ),
            "video": (_clip(6, 1, 12),),
            "needle": (_list(10, pictures=1),),
        },
        goal=("documents", "scenes"),
        learns="language",
        pace=1.0,
        lists=False,
        rests=True,
        keeps=2,
        alone=True,
        reach=8000,
    ),
)

CURRICULA = {"mini": MINI, "bridge": BRIDGE, "long": LONG, "albums": ALBUMS, "adapting": ADAPTING, "windowed": WINDOWED}
