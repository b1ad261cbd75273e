"""Head scores that others published, read as `HeadScores`: the statistics of this book apply to them as to ours.

    scores = read_scores("head_score/llama-2-7b-80k.json")

Known formats, told by what a file holds:

    {"schema": "corelib/head-scores/2", …}      ours
    {"0-0": [0.1, 0.0, …], "0-1": …}            layer-head → the score of every sample, or one number: Retrieval_Head
                                                (arXiv:2404.15574), HeadKV (2410.19258), SparseMM (2506.05344)
    [[0.1, …], …]                               [layer][head]
    numbers between tabs, a line a layer        DuoAttention's gates (arXiv:2410.10819), one a key/value head

What a file says of samples becomes an interval and a split-half reliability; one number a head has neither.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corelib.analysis.published_models import Decoder, decoder_of
from corelib.analysis.reliability import split_half
from corelib.analysis.stats import bootstrap_interval
from corelib.core.errors import BadInput, BadResults
from corelib.core.head_scores import HeadScores, Interval
from corelib.core.results import read_json
from corelib.core.values import MetricFacts, ModelFacts, TaskFacts

OURS = "corelib/head-scores/"
LEVEL = 0.95


@dataclass(frozen=True)
class _Found:
    """What a file holds: the score of each head, in each sample if there are some."""

    values: Float[np.ndarray, "sample layer head"]
    metric: MetricFacts
    per_kv_head: bool = False


def read_scores(path: str | Path, decoder: Decoder | None = None) -> HeadScores:
    """The head scores in a file: ours, or in a format that others publish.

    Args:
        path: the file.
        decoder: the size of the model that it is of; left out, the one that the name of the file, or of a folder that
            it lies in, begins with.

    Returns:
        Its scores. The identity of a model that others measured is its name. Gates of key/value heads are taken as
        scores of so many heads, each of a group of its own.

    Raises:
        BadResults: the file cannot be read, is of no known format or model, misses a head, has one twice, has other
            heads than the model, or holds what is no finite number.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "mine.json"
    >>> _ = path.write_text('{"0-0": [0.0, 0.2, 0.1, 0.1], "0-1": [0.9, 0.7, 0.8, 0.8]}')
    >>> scores = read_scores(path, Decoder("mine", 1, 2, 1))
    >>> round(scores["L0H1"], 3), scores.task.samples
    (0.8, 4)
    >>> folder.cleanup()
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadResults(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if f'"{OURS}' in text[:200]:
        read_json(path)  # says what is wrong with it
        return HeadScores.load(path)
    decoder = decoder or decoder_of(path)
    if decoder is None:
        raise BadResults(
            f"{path}: its name begins with no model that is known: say its layers, heads and key/value heads "
            "(--size 32x32x8)"
        )
    found = _gates(path, text) if path.suffix == ".tsv" else _json(path, text)
    heads = decoder.num_kv_heads if found.per_kv_head else decoder.num_heads
    _check(path, found.values, decoder, heads)
    return _scores(found, replace(decoder, num_heads=heads))


def decoder_of_size(text: str) -> Decoder:
    """A decoder by its size: layers, heads, key/value heads.

    Raises: BadInput if the text is none.

    >>> decoder_of_size("32x32x8").num_kv_heads
    8
    """
    numbers = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip())
    if numbers is None:
        raise BadInput(f"size {text!r}: give layers, heads and key/value heads, as in 32x32x8")
    layers, heads, kv_heads = map(int, numbers.groups())
    return Decoder(text.strip(), layers, heads, kv_heads)


def _scores(found: _Found, decoder: Decoder) -> HeadScores:
    values = found.values
    mean = values.mean(0)
    low, high, reliability = mean, mean, None
    if len(values) >= 4:
        low, high = bootstrap_interval(values, level=LEVEL)
        reliability = split_half(values)
    return HeadScores(
        model=ModelFacts(
            decoder.name,
            f"published as {decoder.name}",
            decoder.num_layers,
            decoder.num_heads,
            decoder.num_kv_heads,
            reach=decoder.reach,
        ),
        task=TaskFacts("published", "published", 0, len(values)),
        metric=found.metric,
        values=_table(mean),
        interval=Interval(LEVEL, _table(np.minimum(low, mean)), _table(np.maximum(high, mean))),
        reliability=reliability,
        software={},
    )


def _table(values: Float[np.ndarray, "layer head"]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in values)


def _check(path: Path, values: np.ndarray, decoder: Decoder, heads: int) -> None:
    given = values.shape[1:]
    if given != (decoder.num_layers, heads):
        raise BadResults(
            f"{path}: {given[0]} layers of {given[1]} heads, but {decoder.name} has {decoder.num_layers} of {heads}: "
            "is it of another model?"
        )
    if not np.isfinite(values).all():
        layer, head = np.argwhere(~np.isfinite(values).all(0))[0]
        raise BadResults(f"{path}: L{layer}H{head} has a score that is no finite number")


def _gates(path: Path, text: str) -> _Found:
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise BadResults(f"{path}: its lines have {sorted(lengths)} numbers: every layer has as many heads")
    try:
        table = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise BadResults(f"{path}: {error}: give numbers between tabs, a line a layer") from None
    return _Found(table[None], MetricFacts("gate", "all", "mean"), per_kv_head=True)


def _json(path: Path, text: str) -> _Found:
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
    if twice:
        raise BadResults(f"{path}: head {twice[0]} stands there {twice.count(twice[0]) + 1} times")
    if isinstance(content, dict):
        return _by_name(path, content)
    try:
        table = np.array(content, dtype=np.float64)
    except (ValueError, TypeError):
        table = np.empty(0)
    if table.ndim != 2:
        raise BadResults(f"{path} holds no head scores: give layer-head → scores, or a table [layer][head]")
    return _Found(table[None], MetricFacts("published", "published", "mean"))


def _by_name(path: Path, content: dict[str, object]) -> _Found:
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
    return _Found(np.moveaxis(values, -1, 0), MetricFacts("published", "published", "mean"))
