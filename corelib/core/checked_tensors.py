"""Tensors on disk with their checksum: written whole, and refused if a single bit is another than was written.

    write_tensors(path, {"scores": scores}, {"fingerprint": "…"})
    tensors, said = read_tensors(path)

These are safetensors files, which every other program reads, too: the checksum stands among what is said beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from corelib.core.errors import BadResults
from corelib.core.results import write_whole

CHECKSUM = "sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str] | None = None) -> None:
    """Write tensors, and texts beside them, as one file.

    Raises: CannotWrite if the disk or the folder refuses it; nothing is left behind.
    """
    here = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    beside = dict(said or {})
    content = save(here, {**beside, CHECKSUM: _checksum(here, beside)})
    write_whole(path, lambda part: part.write_bytes(content))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the texts beside them. A file without a checksum is taken as it is.

    Raises: BadResults if the file is missing, cut short or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors, said = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise BadResults(f"{path} is missing, cut short or damaged ({error})") from None
    promised = said.pop(CHECKSUM, None)
    if promised is not None and promised != _checksum(tensors, said):
        raise BadResults(f"{path} is damaged: it does not hold what was written")
    return tensors, said


def _checksum(tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> str:
    """Of names, shapes, types and values, whatever their order."""
    digest = hashlib.sha256(repr(sorted(said.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
