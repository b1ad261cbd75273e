"""How a question about pictures is put to a mini model.

    one picture     <|im_start|> ▦ digit on red square ?
    several pages   <|im_start|> page 1 ▦ page 2 ▦ room on page 2 ?
    a clip          <|im_start|> frame 1 ▦ frame 2 ▦ … frame of blue star ?
    text only       <|im_start|> red square 7 ; blue star 3 ; digit on blue star ?

where ▦ is `<|vision_start|><|image_pad|><|vision_end|>` (`<|video_pad|>` in a clip). The answer follows the
question and ends with `<|im_end|>`.
"""

from __future__ import annotations

START, END = "<|im_start|>", "<|im_end|>"


def opening(domain: str, pictures: int, *, video: bool = False, context: str = "", first: int = 1) -> str:
    """All that stands before the question. A page of a document is named, even if there is only one. The `first` page
    has this number.

    >>> opening("needle", 0, context="red square 7 ;")
    '<|im_start|> red square 7 ;'
    """
    kind = "video" if video else "image"
    slot = f"<|vision_start|><|{kind}_pad|><|vision_end|>"
    name = "frame" if video else "page"
    if pictures == 1 and domain != "documents":
        parts = [slot]
    else:
        parts = [f"{name} {first + number} {slot}" for number in range(pictures)]
    return " ".join([START, *parts, *([context] if context else [])])
