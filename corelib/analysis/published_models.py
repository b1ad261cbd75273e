"""The decoders whose head scores others have published: how many layers and heads they have, by the names of the files.

Only the size is known here; nothing of these models is loaded. Gemma 3 lets five of six layers see a window of 1,024
tokens: their heads cannot reach far evidence, and are left out wherever heads are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from corelib.core.errors import BadInput


@dataclass(frozen=True)
class Decoder:
    """The size of a decoder. Raises: BadInput for a size that is none.

    >>> Decoder("Qwen3-VL-8B", 36, 32, 8).reach is None
    True
    """

    name: str
    num_layers: int
    num_heads: int
    num_kv_heads: int
    reach: tuple[int, ...] | None = None  # the layers whose heads see the whole prompt; None: all

    def __post_init__(self) -> None:
        if min(self.num_layers, self.num_heads, self.num_kv_heads) < 1 or self.num_heads % self.num_kv_heads:
            raise BadInput(
                f"{self.name}: {self.num_layers} layers of {self.num_heads} heads on {self.num_kv_heads} key/value "
                "heads: give numbers of which the last divides the second"
            )


def _gemma(name: str, layers: int, heads: int, kv_heads: int) -> Decoder:
    """Every sixth layer sees the whole prompt."""
    return Decoder(name, layers, heads, kv_heads, reach=tuple(range(5, layers, 6)))


KNOWN = (
    Decoder("Qwen3-VL-8B", 36, 32, 8),
    Decoder("Qwen3-VL-32B", 64, 64, 8),
    Decoder("Qwen2.5-VL-7B", 28, 28, 4),
    Decoder("Qwen2.5-VL-32B", 64, 40, 8),
    _gemma("Gemma-3-12B", 48, 16, 8),
    _gemma("Gemma-3-27B", 62, 32, 16),
    Decoder("llava-v1.6", 32, 32, 32),
    Decoder("llava-mistral-v1.6", 32, 32, 8),
    Decoder("LongVA", 28, 28, 4),
    Decoder("Qwen2", 28, 28, 4),
    Decoder("llama-2-7b", 32, 32, 32),
    Decoder("llama-2-13b", 40, 40, 40),
    Decoder("Meta-Llama-3-8B", 32, 32, 8),
    Decoder("Llama-3-8B", 32, 32, 8),
    Decoder("Meta-Llama-3.1-8B", 32, 32, 8),
    Decoder("Mistral-7B", 32, 32, 8),
    Decoder("Mixtral-8x7B", 32, 32, 8),
    Decoder("Qwen1.5-14B", 40, 40, 40),
    Decoder("Yi-6B", 32, 32, 4),
)


def decoder_of(path: str | PurePath) -> Decoder | None:
    """The decoder that a file's name, or the name of a folder that it lies in, begins with: the longest name that
    fits; None if none does.

    >>> decoder_of("attn_patterns/Llama-2-7B-32K-Instruct/ctx=1000/full_attention_heads.tsv").num_kv_heads
    32
    """
    for part in reversed(PurePath(path).parts):
        fits = [one for one in KNOWN if part.lower().startswith(one.name.lower())]
        if fits:
            return max(fits, key=lambda one: len(one.name))
    return None
