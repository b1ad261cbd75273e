"""Will it fit? Refuse what is too large before it is allocated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from corelib.core.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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


def working_bytes(model: PreTrainedModel, length: int) -> int:
    """About what a pass over so many tokens takes beside the weights: the cache, and one layer's work.

    Keys and values of all layers, twice one layer's queries and outputs, its feed-forward part, and the stream.
    """
    config = model.config.get_text_config()
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * dim
    work = 4 * config.num_attention_heads * dim + 3 * config.intermediate_size + 6 * config.hidden_size
    return int(length * (cache + work) * model.dtype.itemsize)


def fitting_batch(model: PreTrainedModel, length: int, device: torch.device) -> int:
    """How many sequences of so many tokens to compute at once: 32 on a CPU, where they should fit its cache; elsewhere
    as many as `working_bytes` says fit into half of the free memory, 1 to 256."""
    if device.type == "cpu":
        return 32
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
