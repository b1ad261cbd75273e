"""Will it fit? Refuse what is too large before it is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from corelib.core.errors import BadInput

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

ON_CPU = 32  # sequences that are computed at once on a processor, whose cache they should fit
ROOM = 1.1  # of the weights: what a pass needs, too, at the least


def check_device(name: str) -> torch.device:
    """The device of this name, if torch can use it here.

    Raises: BadInput if there is no such device here.

    >>> check_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"unknown device {name!r}: give cpu, cuda, cuda:1, mps, …") from None
    kind = device.type
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        raise BadInput(f"device {name}: torch finds no {kind} device here; leave it away for the CPU")
    if kind == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise BadInput(f"device {name}: there are {torch.cuda.device_count()} GPUs, numbered from 0")
    return device


def check_fits(what: str, needed: int, device: torch.device, instead: str) -> None:
    """Refuse `what` if it needs more bytes than are free; `instead` says what to do.

    Raises: BadInput if it does not fit.
    """
    free = free_memory(device)
    if free is not None and needed > free:
        raise BadInput(
            f"{what} need about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free on {device}: {instead}"
        )


def check_weights(name: str, weights: float, device: torch.device) -> None:
    """Refuse a checkpoint whose weights take so many bytes, and what a pass needs beside them at the least."""
    check_fits(
        f"the weights of {name}",
        round(ROOM * weights),
        device,
        "take a smaller model, dtype='float16', quantize='8bit' or '4bit', or device_map='auto' on several GPUs",
    )


@dataclass(frozen=True)
class DecoderSizes:
    """How many numbers a decoder holds for one token, without gradients and with fused attention."""

    width: int  # of the stream
    layer: int  # of one layer at work: the larger of its two parts, and the stream beside it
    attention: int  # of its attention part; where a mask is given, keys and values are repeated for all query heads
    keys: int  # of one layer; as many values
    kept: int  # of one layer, in a pass that is kept: the stream, the heads' outputs, keys and values


def decoder_sizes(config: PretrainedConfig) -> DecoderSizes:
    """The sizes of a model's decoder, by its configuration."""
    text: Any = config.get_text_config()
    width, inner = text.hidden_size, text.intermediate_size
    dim = getattr(text, "head_dim", None) or width // text.num_attention_heads
    heads, keys = text.num_attention_heads * dim, text.num_key_value_heads * dim
    attention = 4 * width + 4 * heads + 2 * keys + 2 * dim
    return DecoderSizes(
        width, max(attention, 5 * width + 3 * inner + 2 * dim), attention, keys, width + heads + 2 * keys
    )


def working_bytes(model: PreTrainedModel, length: int) -> int:
    """About what a pass over so many tokens takes beside the weights: the cache, and one layer's work."""
    sizes = decoder_sizes(model.config)
    cache = 2 * model.config.get_text_config().num_hidden_layers * sizes.keys
    return int(length * (cache + sizes.layer) * model.dtype.itemsize)


def fitting_batch(model: PreTrainedModel, length: int, device: torch.device) -> int:
    """How many sequences of so many tokens to compute at once: `ON_CPU` on a processor; elsewhere
    as many as `working_bytes` says fit into half of the free memory, 1 to 256."""
    if device.type == "cpu":
        return ON_CPU
    free = free_memory(device) or 0
    return max(1, min(256, free // 2 // max(1, working_bytes(model, length))))


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
