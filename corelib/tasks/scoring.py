"""Was an answer right? The rule of each kind of answer, for what a model wrote itself.

    score_answer("The answer is (B).", "B", "choice")            # 1.0
    score_answer("[10, 10, 50, 50]", "[10, 10, 40, 50]", "box")  # 1.0: they overlap by 75 %

`corelib.experiments.generate` lets a model write and asks here. All other experiments score without writing: right is
an answer whose very tokens are the most likely ones (`VLM.answer`).
"""

from __future__ import annotations

import re
import unicodedata

from corelib.core.errors import BadInput, check_known

OVERLAP = 0.5  # of two boxes, from which on they count as one (the usual threshold of RefCOCO)
ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """A text without case, accents, punctuation at its ends, articles and double spaces.

    >>> normalise("  The Kettle. ")
    'kettle'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().casefold()
    words = ARTICLES.sub(" ", re.sub(r"[^\w\s.%$/:-]", " ", plain)).split()
    return " ".join(word.strip(".:-") for word in words).strip()


def option_letter(text: str) -> str:
    """The option that a text chooses: the first letter A–Z in brackets; or else the first capital letter that stands
    alone, and is not the word "A" or "I" before another one; empty if there is none.

    >>> option_letter("The answer is (B)."), option_letter("I choose D"), option_letter("cannot say")
    ('B', 'D', '')
    """
    found = re.search(r"\(([A-Z])\)", text) or re.search(r"(?<![A-Za-z])(?![AI] [a-z])([A-Z])(?![A-Za-z'])", text)
    return found[1] if found else ""


def box_of(text: str) -> tuple[float, ...]:
    """The first four numbers of a text, or nothing.

    >>> box_of("at [10, 20.5, 30, 40]")
    (10.0, 20.5, 30.0, 40.0)
    """
    numbers = tuple(float(one) for one in re.findall(r"-?\d+(?:\.\d+)?", text))
    return numbers[:4] if len(numbers) >= 4 else ()


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1).

    >>> overlap((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared) if min(areas) > 0 else 0.0


def score_answer(given: str, answer: str, rule: str = "exact") -> float:
    """1.0 if `given` is right, 0.0 if not. `exact`: the same after `normalise`, or begun by it as a whole word;
    `choice`: the same `option_letter`; `box`: `overlap` of 0.5 or more, both in the same unit.

    Raises: UnknownName for another rule, BadInput if the rule is `box` and `answer` is no box.

    >>> score_answer("The kettle.", "kettle"), score_answer("I choose D", "B", "choice")
    (1.0, 0.0)
    """
    check_known("rule", rule, ("exact", "choice", "box"))
    if rule == "choice":
        return float(option_letter(given) == option_letter(answer) != "")
    if rule == "box":
        place, pointed = box_of(answer), box_of(given)
        if not place:
            raise BadInput(f"the answer {answer!r} is no box: give four numbers")
        return float(bool(pointed) and overlap(pointed, place) >= OVERLAP)
    wanted, found = normalise(answer), normalise(given)
    return float(found == wanted or (wanted != "" and found.startswith(wanted + " ")))
