"""corelib: find, test and use the attention heads that fetch what a question asks about.

    from corelib import load, task
    vlm = load("mini-s")                                   # a real, trained multimodal LLM, small enough for a laptop
    sample = task("scenes").sample("test", seed=0, index=0)
    vlm.ask(sample.images, sample.question)

The names below are imported when they are first used, so `import corelib` itself is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and editors see; tests/test_types.py compares it with the table below
    from corelib.analysis.agreement import compare_heads as compare_heads
    from corelib.analysis.published import read_scores as read_scores
    from corelib.attention.intervene import ablate as ablate
    from corelib.attention.intervene import knockout as knockout
    from corelib.attention.record import record as record
    from corelib.attention.redirect import redirect as redirect
    from corelib.core.geometry import Box as Box
    from corelib.core.head_scores import HeadScores as HeadScores
    from corelib.core.heads import Head as Head
    from corelib.core.heads import HeadSet as HeadSet
    from corelib.experiments.score_heads import score_heads as score_heads
    from corelib.models.load import load as load
    from corelib.models.vlm import VLM as VLM
    from corelib.models.wrap import wrap as wrap
    from corelib.sparse import Window as Window
    from corelib.sparse import sparsify as sparsify
    from corelib.tasks import Sample as Sample
    from corelib.tasks import task as task

_HOMES = {
    "load": "corelib.models.load",
    "VLM": "corelib.models.vlm",
    "wrap": "corelib.models.wrap",
    "task": "corelib.tasks",
    "Box": "corelib.core.geometry",
    "Sample": "corelib.tasks",
    "Head": "corelib.core.heads",
    "HeadSet": "corelib.core.heads",
    "HeadScores": "corelib.core.head_scores",
    "score_heads": "corelib.experiments.score_heads",
    "compare_heads": "corelib.analysis.agreement",
    "read_scores": "corelib.analysis.published",
    "record": "corelib.attention.record",
    "ablate": "corelib.attention.intervene",
    "knockout": "corelib.attention.intervene",
    "redirect": "corelib.attention.redirect",
    "sparsify": "corelib.sparse",
    "Window": "corelib.sparse",
}
__all__ = sorted(_HOMES)


if not TYPE_CHECKING:  # else a checker would believe every name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'corelib' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
