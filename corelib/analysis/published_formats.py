"""The formats in which others publish head scores, told apart and read: `published.py` makes head scores of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corelib.core.errors import BadResults
from corelib.core.values import MetricFacts

LIST = "head_score_list"  # the key of MMRetHead's files


@dataclass(frozen=True)
class Found:
    """What a file holds: the score of each head, in each sample if there are some."""

    values: Float[np.ndarray, "sample layer head"]
    metric: MetricFacts
    per_kv_head: bool = False


def gates(path: Path, text: str) -> Found:
    """DuoAttention's gates: a line a layer, a number a key/value head between tabs.

    Raises: BadResults if a line has other numbers than the rest, or something is no number.
    """
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise BadResults(f"{path}: its lines have {sorted(lengths)} numbers: every layer has as many heads")
    try:
        table = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise BadResults(f"{path}: {error}: give numbers between tabs, a line a layer") from None
    return Found(table[None], MetricFacts("gate", "all", "mean"), per_kv_head=True)


def from_json(path: Path, text: str) -> Found:
    """Scores by the names of heads, in an object or in MMRetHead's list, or a table [layer][head].

    Raises: BadResults if it is no such JSON, misses a head or has one twice, or a score is no number.
    """
    twice: list[str] = []

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        seen: dict[str, object] = {}
        for key, value in pairs:
            if key in seen:
                twice.append(key)
            seen[key] = value
        return seen

    try:
        content = json.loads(text, object_pairs_hook=once)
    except ValueError as error:
        raise BadResults(f"{path} is cut short or not JSON ({error})") from None
    _check_once(path, twice)
    if isinstance(content, dict):
        return _by_name(path, _listed(path, content[LIST]) if LIST in content else content)
    try:
        table = np.array(content, dtype=np.float64)
    except (ValueError, TypeError):
        table = np.empty(0)
    if table.ndim != 2:
        raise BadResults(f"{path} holds no head scores: give layer-head → scores, or a table [layer][head]")
    return Found(table[None], MetricFacts("published", "published", "mean"))


def _listed(path: Path, pairs: object) -> dict[str, object]:
    """MMRetHead's pairs of a head and its score, by head."""
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise BadResults(f"{path}: {LIST} is no list of pairs: give ['layer-head', score] of every head")
    names = [str(name) for name, _ in pairs]
    _check_once(path, [name for place, name in enumerate(names) if name in names[:place]])
    return {name: score for name, (_, score) in zip(names, pairs, strict=True)}


def _check_once(path: Path, again: list[str]) -> None:
    """`again`: what was met once more, each time."""
    if again:
        raise BadResults(f"{path}: head {again[0]} stands there {again.count(again[0]) + 1} times")


def _by_name(path: Path, content: dict[str, object]) -> Found:
    places = {}
    for key, value in content.items():
        place = re.fullmatch(r"(?:L(?=\d+H))?(\d+)[-H](\d+)", key)
        if place is None:
            raise BadResults(f"{path}: {key!r} names no head: write layer and head as in '4-0'")
        scores = value if isinstance(value, list) else [value]
        if not scores or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in scores):
            raise BadResults(f"{path}: head {key} has {str(value)[:40]!r}, which is no list of numbers")
        places[int(place[1]), int(place[2])] = scores
    if not places:
        raise BadResults(f"{path} names no head")
    layers, heads = (1 + max(place[k] for place in places) for k in (0, 1))
    missing = [(layer, head) for layer in range(layers) for head in range(heads) if (layer, head) not in places]
    if missing:
        raise BadResults(f"{path}: head {missing[0][0]}-{missing[0][1]} is missing (and {len(missing) - 1} more)")
    count = {len(scores) for scores in places.values()}
    if len(count) != 1:
        raise BadResults(f"{path}: heads have {min(count)} to {max(count)} scores: give each as many samples")
    values = np.array([[places[layer, head] for head in range(heads)] for layer in range(layers)], dtype=np.float64)
    return Found(np.moveaxis(values, -1, 0), MetricFacts("published", "published", "mean"))
