"""Head scores that others published, read as `HeadScores`: the statistics of this book apply to them as to ours.

    scores = read_scores("head_score/llama-2-7b-80k.json")

Known formats, told by what a file holds:

    {"schema": "corelib/head-scores/2", …}      ours
    {"0-0": [0.1, 0.0, …], "0-1": …}            layer-head → the score of every sample, or one number: Retrieval_Head
                                                (arXiv:2404.15574), HeadKV (2410.19258), SparseMM (2506.05344)
    {"head_score_list": [["0-1", 0.2], …], …}   every head once, best first: MMRetHead (arXiv:2605.27243)
    [[0.1, …], …]                               [layer][head]
    numbers between tabs, a line a layer        DuoAttention's gates (arXiv:2410.10819), one a key/value head

What a file says of samples becomes an interval and a split-half reliability; one number a head has neither.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corelib.analysis.published_formats import Found, from_json, gates
from corelib.analysis.published_models import Decoder, decoder_of
from corelib.analysis.reliability import split_half
from corelib.analysis.stats import bootstrap_interval
from corelib.core.errors import BadInput, BadResults
from corelib.core.head_scores import HeadScores, Interval
from corelib.core.results import read_json
from corelib.core.values import ModelFacts, TaskFacts

OURS = "corelib/head-scores/"
LEVEL = 0.95


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
    found = gates(path, text) if path.suffix == ".tsv" else from_json(path, text)
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


def _scores(found: Found, decoder: Decoder) -> HeadScores:
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
