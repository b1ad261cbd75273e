"""Head scores in the formats that others read: the way back from `published.py`.

    write_scores(scores, "head_score/my-model.json", "retrieval-head")
    write_scores(scores, "full_attention_heads.tsv", "duoattention")

| format | what is written | who reads it |
|---|---|---|
| `retrieval-head` | JSON, `"layer-head": [score]` | Retrieval_Head, HeadKV, SparseMM |
| `mmrethead` | JSON, `"head_score_list": [["layer-head", score], …]`, best first | MMRetHead |
| `table` | JSON, [layer][head] | anybody |
| `duoattention` | a line a layer, a number a key/value head between tabs | DuoAttention and its patches |

`read_scores` gives back the very numbers of the first three. DuoAttention keeps a cache for each key/value head, so a
number there stands for a group of query heads: the largest of their scores (our definition), over the largest of all,
since its gates lie between 0 and 1. Gates whose largest is 1 come back as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corelib.analysis.published_formats import LIST
from corelib.core.errors import BadInput, check_known
from corelib.core.head_scores import HeadScores, ordered
from corelib.core.results import write_whole


def write_scores(scores: HeadScores, path: str | Path, form: str) -> Path:
    """Write the scores of all heads in another format; what that cannot hold (intervals, the task) is left out.

    Raises: UnknownName for a format that is none; BadInput if gates cannot be made of these scores (a negative one, or
        none above 0); CannotWrite if the file cannot be written.

    >>> import tempfile
    >>> from corelib import atlas
    >>> folder = tempfile.TemporaryDirectory()
    >>> scores = atlas.cell("mini-s", "scenes").scores()
    >>> path = write_scores(scores, Path(folder.name) / "full_attention_heads.tsv", "duoattention")
    >>> len(path.read_text().splitlines()), len(path.read_text().splitlines()[0].split("\\t"))
    (6, 4)
    >>> folder.cleanup()
    """
    text = FORMS[check_known("format of head scores", form, FORMS)](scores)
    write_whole(Path(path), lambda beside: beside.write_text(text, encoding="utf-8"))
    return Path(path)


def by_kv_head(scores: HeadScores) -> Float[np.ndarray, "layer kv_head"]:
    """The largest score of each group of query heads that share a key/value head."""
    table = np.asarray(scores, dtype=float)
    groups: Float[np.ndarray, "layer kv_head"] = table.reshape(len(table), scores.model.num_kv_heads, -1).max(-1)
    return groups


def _named(scores: HeadScores) -> str:
    table = np.asarray(scores, dtype=float)
    return json.dumps({f"{layer}-{head}": [float(value)] for (layer, head), value in np.ndenumerate(table)}, indent=1)


def _table(scores: HeadScores) -> str:
    return json.dumps(np.asarray(scores, dtype=float).tolist())


def _listed(scores: HeadScores) -> str:
    table = np.asarray(scores, dtype=float)
    best = [[f"{head.layer}-{head.index}", float(table[head.layer, head.index])] for head in ordered(table)]
    return json.dumps({LIST: best}, indent=1)


def _gates(scores: HeadScores) -> str:
    groups = by_kv_head(scores)
    if groups.min() < 0 or not groups.max() > 0:
        raise BadInput(
            f"gates lie between 0 and 1, and these scores between {groups.min():.3f} and {groups.max():.3f}: choose a "
            "metric without negative scores, such as raw"
        )
    return "".join("\t".join(repr(float(value)) for value in row) + "\n" for row in groups / groups.max())


FORMS: dict[str, Callable[[HeadScores], str]] = {
    "retrieval-head": _named,
    "mmrethead": _listed,
    "table": _table,
    "duoattention": _gates,
}
