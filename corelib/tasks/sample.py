"""What a task hands out: pictures, a question, its answer, and *where* the answer can be read.

The regions are the point. A benchmark says whether a model was right; a `Sample` also says which pixels
it had to look at, so attention can be scored against a ground truth.

* `evidence`: the region to be *read* (the target object, the field's value);
* `anchors`: regions that only help to *find* it (the red square of "left of the red square", a field's label);
* `distractors`: regions of the same kind as the evidence that would give a wrong answer;
* `spans`: where the answer stands in the text, if it is there and not in a picture.

An answer may be a whole sentence; `told` says which part of it answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

from PIL import Image

from corelib.core.errors import BadInput
from corelib.core.geometry import Box
from corelib.core.pictures import Pictured, open_pictures

SECONDS = 1.0  # between two frames of a clip, if nothing else is known (our definition)


@dataclass(frozen=True)
class Sample:
    """One question with its exact evidence.

    `images` is empty for the text-only tasks; `video` says that the images are the frames of one clip.
    `context` is text that stands before the question (the list a text-only needle is hidden in).

    >>> from corelib import task
    >>> sample = task("scenes").sample("test", seed=0, index=0)
    >>> sample.domain, len(sample.images), len(sample.evidence)
    ('scenes', 1, 1)
    """

    domain: str
    split: str
    seed: int
    index: int
    kind: str  # the kind of question, such as "attribute", "relation", "field", "frame"
    question: str
    answer: str
    images: tuple[Image.Image, ...] = ()
    video: bool = False
    context: str = ""
    evidence: tuple[Box, ...] = ()
    distractors: tuple[Box, ...] = ()
    anchors: tuple[Box, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()  # evidence in text: characters [first, past) of `context`
    first_page: int = 1  # the number of the first picture, where pictures are named
    accepted: tuple[str, ...] = ()  # other answers that are right as well, if the model writes them
    rule: str = ""  # by which a written answer is judged (`scoring.py`); empty: that of the task
    seconds: float = SECONDS  # between two frames of a clip
    told: tuple[int, int] | None = None  # characters [first, past) of `answer` that say what was asked; None: all
    notes: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @classmethod
    def of(cls, images: Pictured | Sequence[Pictured], question: str, *, video: bool = False) -> Sample:
        """A question of your own: its answer and its evidence are not known.

        Pictures are files or open; they are named as pages if the question asks for a page.

        Raises: BadInput for what is no picture, cannot be read, or is no text.

        >>> Sample.of([Image.new("RGB", (64, 64))], "room on page 1 ?").domain
        'documents'
        """
        if not isinstance(question, str):
            raise BadInput(f"the question is {question!r:.60}: give a text")
        domain = "video" if video else "documents" if re.search(r"\bpage\b", question.lower()) else "scenes"
        return cls(domain, "test", 0, 0, "", question, "", images=open_pictures(images), video=video)

    @cached_property
    def digest(self) -> str:
        """What stands before the question, as 16 hexadecimal digits: pictures, the number of the first, whether they
        are a clip, and context.

        Of a picture counts what is in it (mode, size, palette, transparency, pixels), not which object holds it. It is
        computed when first asked for, in about a millisecond a megabyte, and kept.

        >>> one, two = (Sample.of([Image.new("RGB", (8, 8), "red")], asked) for asked in ("digit ?", "colour ?"))
        >>> one.digest == two.digest
        True
        """
        excerpt = () if self.first_page == 1 else (self.first_page,)
        pace = () if self.seconds == SECONDS else (self.seconds,)
        found = blake2b(repr((self.video, self.context, *excerpt, *pace)).encode(), digest_size=8)
        for image in self.images:
            look = (image.mode, image.size, image.getpalette(), image.info.get("transparency"))
            pixels = image.tobytes()
            found.update(repr((look, len(pixels))).encode())
            found.update(pixels)
        return found.hexdigest()

    @property
    def cluster(self) -> str:
        """What the bootstrap resamples: questions about one picture stand or fall together.

        Two samples are of one cluster if they have the same domain, split, seed, index and `digest`. A name alone is
        not trusted: two folders, or two difficulties of one task, draw different pictures under one name.

        >>> Sample.of([], "digit on red square ?").cluster
        'scenes/test/0/0/d2c523fc96c0d729'
        """
        return f"{self.domain}/{self.split}/{self.seed}/{self.index}/{self.digest}"
