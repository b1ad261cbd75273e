"""Judge the head scores that others published: numbers go into the book, their tables do not.

    git clone --bare https://github.com/nightdessert/Retrieval_Head clones/nightdessert+Retrieval_Head
    python tools/published_heads.py clones         # corelib/atlas/published.json

`clones` holds one clone of each repository in `SOURCES`, bare or not, named owner+name. Files are read at the commit
that is written here; another commit, or a file that is not in the clone, is refused. No file is copied.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from corelib.analysis.published import read_scores
from corelib.analysis.published_models import Decoder, decoder_of
from corelib.analysis.published_result import Published, PublishedPair, PublishedRanking, Source
from corelib.core.errors import BadInput, CorelibError
from corelib.core.head_scores import HeadScores, Interval
from corelib.core.results import software

OUT = Path(__file__).resolve().parents[1] / "corelib" / "atlas" / "published.json"
NONE = "none stated"
DUO = "attn_patterns/{}/lr=0.02-reg=0.05-ctx=1000_{}-multi_passkey10/full_attention_heads.tsv"


@dataclass(frozen=True)
class Repository:
    """A repository at one commit, and what its files hold."""

    name: str
    commit: str
    licence: str
    score: str
    modality: str
    paths: dict[str, str]  # name of the model → path


SOURCES = (
    Repository(
        "nightdessert/Retrieval_Head",
        "3ac171a6f71ce7ef1cda57d4215c390fb6ab51f2",
        NONE,
        "copy-paste of a needle",
        "text",
        {
            name: f"head_score/{name}.json"
            for name in (
                "llama-2-7b-80k",
                "Mistral-7B-v0.2-hf",
                "Yi-6B-200K",
                "llama-2-13b-64k",
                "Qwen1.5-14B",
                "Qwen1.5-14B-Chat",
                "Mixtral-8x7B-v0.1",
            )
        },
    ),
    Repository(
        "FYYFU/HeadKV",
        "0862a0955fe82e9ff611d59541918e02c5def625",
        NONE,
        "top-k evidence of a needle",
        "text",
        {
            name: f"Important_Head/head_score/{name}_retrieval_reasoning_heads.json"
            for name in ("Meta-Llama-3-8B-Instruct", "Mistral-7B-Instruct-v0.2")
        },
    ),
    Repository(
        "mit-han-lab/duo-attention",
        "fe93c314ae87306ef6629dc16713250b4718ffe7",
        "MIT",
        "gates of key/value heads",
        "text",
        {
            name: DUO.format(name, tokens)
            for name, tokens in {
                "Llama-2-7B-32K-Instruct": 32000,
                "Llama-3-8B-Instruct-Gradient-1048k": 32000,
                "Llama-3-8B-Instruct-Gradient-4194k": 32000,
                "Meta-Llama-3.1-8B-Instruct": 128000,
                "Mistral-7B-Instruct-v0.2": 32000,
                "Mistral-7B-Instruct-v0.3": 32000,
            }.items()
        },
    ),
    Repository(
        "CR400AF-A/SparseMM",
        "f52655b624d2c2114c59d9e48a1cb545feaea0dd",
        NONE,
        "box-hit while reading out text",
        "image",
        {"llava-v1.6": "visual_head/head_score/llava-v1.6.json"},
    ),
    Repository(
        "MinamiJogen/Vision-Retrieval-Head",
        "70c4f397071bb24491045e143c2b289c89dcfa19",
        NONE,
        "copy-paste of a needle",
        "text",
        {
            "Qwen2": "old code/Retrieval_Head1/head_score/Qwen2.json",
            "LongVA": "old code/Retrieval_Head1/head_score/LongVA-Text-Only.json",
        },
    ),
)
PAIRS = (  # of one decoder; the last two of gates, and what is said of their key/value heads
    ("Qwen1.5-14B", "Qwen1.5-14B-Chat", "before and after instruction tuning"),
    ("Qwen2", "LongVA", "a language model, and a multimodal one built on it; both on a text needle"),
    ("Mistral-7B-v0.2-hf", "HeadKV Mistral-7B-Instruct-v0.2", "two scores of one family"),
    ("duo Llama-2-7B-32K-Instruct", "llama-2-7b-80k", "a learned gate and copy-paste"),
    ("duo Mistral-7B-Instruct-v0.2", "Mistral-7B-v0.2-hf", "a learned gate and copy-paste, by key/value head"),
)
TOLD_BY = (
    "A review of this book computed them from the files of ab-cli/MMRetHeads at commit 126112d (image needle, 8k "
    "tokens; question minus null question), over all heads, those behind Gemma's windows too. That repository could "
    "not be had when this file was made: they were not computed anew."
)
TOLD = (  # name, top share, half share, group share, its chance, median depth
    ("Qwen3-VL-8B", 0.40, 0.073, 0.56, 0.22, 0.49),
    ("Qwen3-VL-32B", 0.37, 0.081, 0.38, 0.11, 0.71),
    ("Qwen2.5-VL-7B", 0.46, 0.062, 0.45, 0.11, None),
    ("Qwen2.5-VL-32B", 0.32, 0.098, 0.41, 0.18, None),
    ("Gemma-3-12B", 0.45, 0.061, 0.65, 0.46, None),
    ("Gemma-3-27B", 0.53, 0.045, 0.66, 0.49, None),
)


def scores_of(repository: Repository, path: str, clones: Path) -> tuple[HeadScores, Source]:
    """One file of a clone, read where it cannot be taken for ours."""
    clone = clones / repository.name.replace("/", "+")
    clone = clone / "repo" if (clone / "repo").is_dir() else clone
    told = subprocess.run(["git", "-C", clone, "show", f"{repository.commit}:{path}"], capture_output=True)
    if told.returncode:
        raise BadInput(f"{clone} has no {path} at {repository.commit[:8]}: {told.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path
        copy.parent.mkdir(parents=True)
        copy.write_bytes(told.stdout)
        scores = read_scores(copy)
    digest = hashlib.sha256(told.stdout).hexdigest()
    return scores, Source(repository.name, repository.commit, path, digest, repository.licence)


def by_kv_head(scores: HeadScores) -> HeadScores:
    """The mean over the query heads of each key/value head."""
    facts = scores.model
    size = facts.num_heads // facts.num_kv_heads
    table = np.asarray(scores).reshape(facts.num_layers, facts.num_kv_heads, size).mean(-1)
    values = tuple(tuple(map(float, row)) for row in table)
    model = replace(facts, num_heads=facts.num_kv_heads)
    return HeadScores(model, scores.task, scores.metric, values, Interval(0.95, values, values), software={})


def main() -> None:
    clones = Path(sys.argv[1])
    found: dict[str, HeadScores] = {}
    rankings = []
    for repository in SOURCES:
        for name, path in repository.paths.items():
            scores, source = scores_of(repository, path, clones)
            one = PublishedRanking.of(scores, score=repository.score, modality=repository.modality, source=source)
            rankings.append(replace(one, name=name))
            prefix = {"mit-han-lab/duo-attention": "duo ", "FYYFU/HeadKV": "HeadKV "}.get(repository.name, "")
            found[prefix + name] = scores
    pairs = []
    for one, two, what in PAIRS:
        a, b = found[one], found[two]
        if a.model.num_heads != b.model.num_heads:
            b = by_kv_head(b)
        pairs.append(PublishedPair.of(a, b, (one, two), what))
    Published(tuple(rankings), tuple(pairs), tuple(map(told, TOLD)), TOLD_BY, software()).save(OUT)
    print(OUT)


def told(row: tuple[str, float, float, float, float, float | None]) -> PublishedRanking:
    name, top, half, group, chance, depth = row
    decoder: Decoder | None = decoder_of(name)
    assert decoder is not None
    return PublishedRanking(
        name=name,
        score="question − null question",
        modality="image",
        layers=decoder.num_layers,
        heads=decoder.num_heads,
        kv_heads=decoder.num_kv_heads,
        counted=decoder.num_layers * decoder.num_heads,  # the review counted all, of Gemma too
        samples=0,
        top_share=top,
        half_share=half,
        group_share=group,
        group_chance=chance,
        median_depth=depth,
        reliability=None,
        source=None,
    )


if __name__ == "__main__":
    try:
        main()
    except CorelibError as error:
        sys.exit(f"error: {error}")
