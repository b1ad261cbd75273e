"""How a question about pictures is put to the bridge: lines of text.

    one picture     <|im_start|>▦⏎ digit on red square ?⏎7<|im_end|>
    several pages   <|im_start|>page 1: ▦⏎page 2: ▦⏎ on page 2, room ?⏎471<|im_end|>
    a clip          <|im_start|>frame 1: ▦⏎frame 2: ▦⏎ … ⏎ frame of blue star ?⏎4<|im_end|>
    text only       <|im_start|>red square 7 ; blue star 3 ;⏎ digit on blue star ?⏎3<|im_end|>
    recital         red square: 7⏎blue star: 3⏎ … ⏎blue star: 3      (no question, but a text that goes on)

where ⏎ is the end of a line and ▦ stands for as many `<empty_output>` as the picture has visual tokens. A question
begins with a space, so that its first word is the same token as elsewhere in a text.

What a question seeks stands last in it, the page or frame before it (our choice; the other order was not compared).
"""

from __future__ import annotations

import re

from corelib.bridge.architecture import PLACEHOLDER

PLACE_LAST = re.compile(r"(.*) ((?:on page|in frame) \d+) \?")
START, END = "<|im_start|>", "<|im_end|>"


def opening(domain: str, pictures: int, *, video: bool = False, context: str = "", first: int = 1) -> str:
    """All that stands before the question. A page of a document is named, even if there is only one. The `first` page
    has this number.

    >>> opening("needle", 0, context="red square 7 ;")
    '<|im_start|>red square 7 ;\\n'
    """
    if domain == "recital":
        return context
    name = "frame" if video else "page"
    if pictures == 1 and domain != "documents":
        lines = [PLACEHOLDER]
    else:
        lines = [f"{name} {first + number}: {PLACEHOLDER}" for number in range(pictures)]
    return START + "".join(f"{line}\n" for line in [*lines, *([context] if context else [])])


def asked(question: str) -> str:
    """The question's line: the answer follows it.

    >>> asked("room on page 2 ?"), asked("digit on red square ?")
    (' on page 2, room ?\\n', ' digit on red square ?\\n')
    """
    if question.endswith(":"):  # not a question: the text goes on
        return f"{question} "
    return " " + PLACE_LAST.sub(r"\2, \1 ?", question) + "\n"
