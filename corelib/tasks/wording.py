"""The questions of `scenes` in other words: is it the picture that a model understands, or its template?

A bridge has the vocabulary of its language model, and can be asked in English; a mini model knows the plain form alone.
"""

from __future__ import annotations

import re

from corelib.core.errors import BadInput, check_known

FORMS: dict[str, tuple[str, str]] = {  # where the thing itself is asked for, where its neighbour is
    "plain": ("digit on {thing} ?", "digit {side} {thing} ?"),
    "which": ("Which digit is on the {thing}?", "Which digit is {side} the {thing}?"),
    "what": ("What number is written on the {thing}?", "What number is written {side} the {thing}?"),
    "read": ("Read the digit that the {thing} shows.", "Read the digit that stands {side} the {thing}."),
    "tell": ("Tell me the digit on the {thing}, please.", "Tell me the digit {side} the {thing}, please."),
}


def reworded(text: str, form: str) -> str:
    """A plain question of `scenes` in another form.

    Raises: UnknownName for a form that is none, BadInput for a question that is not plain, or names a page.

    >>> reworded("digit on red square ?", "which"), reworded("digit left of red square ?", "tell")
    ('Which digit is on the red square?', 'Tell me the digit left of the red square, please.')
    """
    check_known("wording", form, FORMS)
    if form == "plain":
        return text
    found = re.fullmatch(r"digit (on|left of|right of|above|below) (\w+ \w+) \?", text)
    if found is None:
        raise BadInput(f"{text!r} cannot be asked in the form {form!r}: leave wording at plain, or pictures at 1")
    itself, beside = FORMS[form]
    return (itself if found[1] == "on" else beside).format(side=found[1], thing=found[2])
