"""The mini models' tokenizer: one token a word, one token a digit. Small enough to print whole.

>>> tokenizer = build_tokenizer()
>>> tokenizer.tokenize("digit on red square ? 47")
['digit', 'on', 'red', 'square', '?', '4', '7']
"""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from corelib.core.errors import BadInput
from corelib.tasks.documents import LABELS
from corelib.tasks.shapes import COLOURS, SHAPES

SPECIAL = {
    "pad_token": "<|endoftext|>",
    "unk_token": "<|unknown|>",
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
}
VISUAL = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")  # the names Qwen3-VL uses
GRAMMAR = ("digit", "on", "in", "of", "left", "right", "above", "below", "frame", "page", "list", "plus", "?", ":", ";")


def words() -> tuple[str, ...]:
    """Every word the mini models know, special tokens excluded."""
    return (*map(str, range(10)), *GRAMMAR, *COLOURS, *SHAPES, *LABELS)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer as a stock `PreTrainedTokenizerFast`, left-padding, ready for `save_pretrained`."""
    tokens = (*SPECIAL.values(), *VISUAL, *words())
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(tokens)}, unk_token=SPECIAL["unk_token"]))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        additional_special_tokens=list(VISUAL),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        **SPECIAL,
    )


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The id of one token.

    Raises: BadInput if the tokenizer has no such token, nor one for what it does not know.

    >>> token_id(build_tokenizer(), "<|endoftext|>")
    0
    """
    found = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(found, int):
        raise BadInput(f"the tokenizer has no token {token!r}: it is not of this model")
    return found
