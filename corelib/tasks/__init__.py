"""The tasks: pictures and questions whose evidence is known to the pixel.

`task("scenes")` gives a domain at its default difficulty, `task("scenes", objects=16)` turns it up. For models that
know the world there are real pictures: `collage`, `folder:PATH` (your own) and `hub:NAME` (public data sets).
"""

from __future__ import annotations

from collections.abc import Callable

from corelib.core.errors import BadInput, UnknownName, check_known
from corelib.core.geometry import Box
from corelib.tasks import folder, hub
from corelib.tasks.assets import SPLITS
from corelib.tasks.base import Picture, Question, Setting, Task
from corelib.tasks.collage import Collage
from corelib.tasks.documents import Documents
from corelib.tasks.draw import Draw
from corelib.tasks.folder import Folder
from corelib.tasks.hub import Hub
from corelib.tasks.sample import Sample
from corelib.tasks.scenes import Scenes
from corelib.tasks.text import Arithmetic, Needle, Recital
from corelib.tasks.video import Video

DOMAINS = ("scenes", "documents", "video")  # with pictures, and evidence in them
RETRIEVING = (*DOMAINS, "needle")  # with evidence: there, or in a text
TASKS = {cls.name: cls for cls in (Scenes, Documents, Video, Needle, Arithmetic)}  # that models are trained on
UNTRAINED = {Recital.name: Recital}  # that a language model can do by itself
WORLD_KNOWLEDGE = {Collage.name: Collage}  # that only a model can do which knows the world
EXTERNAL: dict[str, Callable[..., Task]] = {  # tasks that are read from elsewhere
    folder.PREFIX: Folder.at,
    hub.PREFIX: lambda name: Hub(source=name),
}
SETTINGS: dict[str, tuple[str, ...]] = {  # of these, what may be set
    folder.PREFIX: ("max_pixels",),
    hub.PREFIX: (),
}


def task(name: str, **difficulty: Setting) -> Task:
    """The task called `name`, at the given difficulty (the fields of its class; those not given stay at the default).

    Raises: UnknownName for a task or a difficulty that does not exist, BadInput for a difficulty of a task that is read
    from elsewhere.

    >>> task("documents", pages=4).pages
    4
    """
    known = {**TASKS, **UNTRAINED, **WORLD_KNOWLEDGE}
    if not isinstance(name, str):
        raise UnknownName("domain", name, known)
    for prefix, read in EXTERNAL.items():
        if name.startswith(prefix):
            others = [key for key in difficulty if key not in SETTINGS[prefix]]
            if others:
                raise BadInput(f"{name} is as difficult as it is: leave {', '.join(others)} away")
            return read(name.removeprefix(prefix), **difficulty)
    return known[check_known("domain", name, known)]().with_difficulty(**difficulty)


__all__ = [
    "DOMAINS",
    "RETRIEVING",
    "SPLITS",
    "TASKS",
    "UNTRAINED",
    "WORLD_KNOWLEDGE",
    "Box",
    "Collage",
    "Draw",
    "Folder",
    "Hub",
    "Picture",
    "Question",
    "Sample",
    "Setting",
    "Task",
    "task",
]
