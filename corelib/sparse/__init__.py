"""Accelerate: a few heads read everything, all others read the beginning and what is near.

    with sparsify(vlm.model, dense=scores.top(), window=Window(512, sinks=64)):
        vlm.model(**inputs)                    # the same model, less work

`window.py` says what a windowed head sees; `windowed.py` computes it in plain torch, exactly, without an N² tensor;
`flex.py` does the same with FlexAttention; `program.py` is the program of the one attention function that gives each
head its way.
"""

from corelib.sparse.program import BACKENDS, sparsify
from corelib.sparse.window import Window

__all__ = ["BACKENDS", "Window", "sparsify"]
