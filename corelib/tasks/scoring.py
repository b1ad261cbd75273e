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
from corelib.tasks.sample import Sample

OVERLAP = 0.5  # of two boxes, from which on they count as one (the usual threshold of RefCOCO)
RULES = ("exact", "choice", "box")
ARTICLES = ("a", "an", "the")
DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d"), "-")
FRACTION = {0x2044: "/"}  # NFKC makes 1⁄2 of ½
INSIDE = frozenset(".:/%-")  # punctuation that belongs to a number, a time or a compound
NUMBER = r"(?<![\w.])-?\d+(?:\.\d+)?"  # the 2 of `bbox_2d` is none


def normalise(text: str) -> str:
    """A text without case, punctuation at its ends, articles and double spaces, in any script.

    It is Unicode's NFKC, case-folded, digits of any script as 0–9, no commas between thousands. Accents, signs, decimal
    points and symbols such as € stay. Empty if there is no letter, digit or symbol.

    >>> normalise("  The Kettle. "), normalise("−1,000"), normalise("Нет!"), normalise("½")
    ('kettle', '-1000', 'нет', '1/2')
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(DASHES | FRACTION)
    plain = "".join(map(_digit, plain))
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain)
    kept = "".join(one if one in INSIDE or unicodedata.category(one)[0] in "LMNS" else " " for one in plain)
    words = [bare for word in kept.split() if (bare := _bare(word))]
    return re.sub(r"(?<=\d) (?=%)", "", " ".join([word for word in words if word not in ARTICLES] or words))


def _digit(one: str) -> str:
    return str(unicodedata.digit(one)) if unicodedata.category(one) == "Nd" else one


def _bare(word: str) -> str:
    """A word without punctuation at its ends; before a number, a minus is a sign and a point a decimal point."""
    word = word.rstrip(".:/-")
    rest = word.lstrip(".:/-")
    before = word[: len(word) - len(rest)]
    if not rest[:1].isdigit():
        return rest
    point = "0." if before.endswith(".") and not before.endswith("..") else ""
    return ("-" if "-" in before else "") + point + rest


def option_letter(text: str) -> str:
    """The option that a text chooses: the first single letter in brackets; or else one that the text begins with, or
    is all of it; or the first capital that stands alone, and is not the word "A" or "I" before another one, unless
    that is "is"; or a small letter at its end. Empty if there is none.

    >>> option_letter("The answer is (b)."), option_letter("I choose D"), option_letter("A is correct")
    ('B', 'D', 'A')
    """
    for pattern in (
        r"[(\[]\s*([A-Za-z])\s*[)\]]",
        r"^\W*([A-Za-z])\s*(?:[.):,]|$)",
        r"(?<![A-Za-z])(A)(?= is\b)|(?<![A-Za-z])(?![AI] [a-z])([A-Z])(?![A-Za-z'])",
        r"(?i:answer|option|choice)(?: is|:)?\s+([a-z])\W*$",
    ):
        found = re.search(pattern, text.strip())
        if found:
            return str(next(filter(None, found.groups()))).upper()
    return ""


def box_of(text: str) -> tuple[float, ...]:
    """The first four numbers that stand together in brackets; or else the first four of the text; or nothing.

    >>> box_of('on 2 pages: {"bbox_2d": [10, 20.5, 30, 40]}'), box_of("(1, 2), (3, 4)")
    ((10.0, 20.5, 30.0, 40.0), (1.0, 2.0, 3.0, 4.0))
    """
    within = re.search(rf"[\[(]\s*{NUMBER}(?:[\s,]+{NUMBER}){{3}}\s*[\])]", text)
    numbers = tuple(float(one) for one in re.findall(NUMBER, within[0] if within else text))
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
    """1.0 if `given` is right, 0.0 if not. `exact`: the same after `normalise`, or begun by it as a whole word, and not
    empty; `choice`: the same `option_letter`; `box`: `overlap` of 0.5 or more, both in the same unit.

    Raises: UnknownName for another rule, BadInput if the rule is `box` and `answer` is no box.

    >>> score_answer("The kettle.", "kettle"), score_answer("I choose D", "B", "choice")
    (1.0, 0.0)
    """
    check_known("rule", rule, RULES)
    if rule == "choice":
        return float(option_letter(given) == option_letter(answer) != "")
    if rule == "box":
        place, pointed = box_of(answer), box_of(given)
        if not place:
            raise BadInput(f"the answer {answer!r} is no box: give four numbers")
        return float(bool(pointed) and overlap(pointed, place) >= OVERLAP)
    wanted, found = normalise(answer), normalise(given)
    return float(wanted != "" and (found == wanted or found.startswith(wanted + " ")))


def score_sample(text: str, sample: Sample, rule: str = "exact") -> float:
    """1.0 if what was written to a sample is right: its answer, or another one that is accepted. By the sample's own
    rule, or else by `rule`.

    >>> score_sample("97", Sample("folder", "test", 0, 0, "", "total ?", "ninety-seven", accepted=("97",)))
    1.0
    """
    return max(score_answer(text, answer, sample.rule or rule) for answer in (sample.answer, *sample.accepted))
