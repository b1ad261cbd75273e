"""corelib: find, test and use the attention heads that fetch what a question asks about.

    from corelib import load, task
    vlm = load("mini-s")                                   # a real, trained multimodal LLM, small enough for a laptop
    sample = task("scenes").sample("test", seed=0, index=0)
    vlm.ask(sample.images, sample.question)

The names below are imported when they are first used, so `import corelib` itself is instant.
"""

from importlib import import_module

_HOMES = {
    "load": "corelib.models.vlm",
    "VLM": "corelib.models.vlm",
    "task": "corelib.tasks",
    "Box": "corelib.core.geometry",
    "Sample": "corelib.tasks",
    "Head": "corelib.core.heads",
    "HeadSet": "corelib.core.heads",
    "HeadScores": "corelib.core.head_scores",
    "score_heads": "corelib.experiments.score_heads",
    "compare_heads": "corelib.analysis.agreement",
    "record": "corelib.attention.record",
    "ablate": "corelib.attention.intervene",
    "knockout": "corelib.attention.intervene",
    "sparsify": "corelib.sparse",
    "Window": "corelib.sparse",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'corelib' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
