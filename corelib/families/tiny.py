"""Tiny models of every published family, with random weights: the way a real checkpoint goes, without its gigabytes.

    load("tiny-random:qwen3-vl")            # wherever a model can be named: library, command line, notebook 12

The classes and the image processors are those of the real checkpoints, with the configurations of `tiny_configs.py`.
The tokenizer is made on the spot: a token a byte. What such a model answers means nothing.
"""

from __future__ import annotations

from functools import partial

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from corelib.core.errors import check_known
from corelib.families.chat import Chat
from corelib.families.tiny_configs import KINDS, SPREAD
from corelib.mini.vocabulary import token_id

PREFIX = "tiny-random:"


def tiny_names() -> tuple[str, ...]:
    """What can be loaded: `tiny-random:` and a family."""
    return tuple(PREFIX + kind for kind in KINDS)


def tokenizer(special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """A tokenizer that knows every byte, and these tokens besides.

    >>> tokenizer(("<|endoftext|>", "<|im_end|>", "<image>"))("a<image>")["input_ids"]
    [67, 2]
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*special, *letters])}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=special[0], eos_token=special[1])


def build_tiny(name: str, seed: int = 0) -> tuple[PreTrainedModel, Chat]:
    """A tiny random model and its adapter, by the name of its family; the same for the same seed.

    Raises: UnknownName if there is no such family.
    """
    kind = KINDS[check_known("family of a tiny model", name, KINDS)]
    words = tokenizer(kind.special)
    config = kind.config(partial(token_id, words))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, kind.family.architecture)(config)
        for weight in model.parameters():
            if weight.ndim == 2 and not weight.any():  # Gemma 3's projector begins at zero: its pictures were all alike
                torch.nn.init.normal_(weight, std=SPREAD["initializer_range"])
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, 1
    images = kind.family.processor(**kind.pixels)
    return model.eval(), kind.family(model.config, words, images, kind.template, kind.video)
