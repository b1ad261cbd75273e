"""The tasks: pictures and questions whose evidence is known to the pixel.

`task("scenes")` gives a domain at its default difficulty, `task("scenes", objects=16)` turns it up.
"""

from __future__ import annotations

from corelib.errors import check_known
from corelib.tasks.assets import SPLITS
from corelib.tasks.base import Picture, Question, Task
from corelib.tasks.documents import Documents
from corelib.tasks.sample import Box, Sample
from corelib.tasks.scenes import Scenes
from corelib.tasks.text import Arithmetic, Needle, Recital
from corelib.tasks.video import Video

DOMAINS = ("scenes", "documents", "video")  # with pictures, and evidence in them
RETRIEVING = (*DOMAINS, "needle")  # with evidence: there, or in a text
TASKS = {cls.name: cls for cls in (Scenes, Documents, Video, Needle, Arithmetic)}  # that models are trained on
UNTAUGHT = {Recital.name: Recital}


def task(name: str, **difficulty) -> Task:
    """The task called `name`, at the given difficulty.

    >>> task("documents", pages=4).pages
    4
    """
    known = {**TASKS, **UNTAUGHT}
    return known[check_known("domain", name, known)]().harder(**difficulty)


__all__ = [
    "DOMAINS",
    "RETRIEVING",
    "SPLITS",
    "TASKS",
    "UNTAUGHT",
    "Box",
    "Picture",
    "Question",
    "Sample",
    "Task",
    "task",
]
