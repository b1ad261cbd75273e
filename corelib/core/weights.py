"""Weights in half precision, with their checksum, in the folder of a bundled model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from corelib.core.model_folder import CHECKSUM, WEIGHTS, checksums, sha256, stage_file
from corelib.core.results import write_json, write_whole


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Loading without a progress bar, and without a report of weights that are meant to be new."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def to_half(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parameters in half precision."""
    return {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in parameters.items()}


def write_weights(folder: Path, parameters: Mapping[str, torch.Tensor]) -> str:
    """Write a folder's weights, in half precision, and their checksum. Returns the sha256."""
    save_file(to_half(parameters), folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    digest = sha256(folder / WEIGHTS)
    write_json(folder / CHECKSUM, {"sha256": digest})
    return digest


def add_stage(folder: Path, name: str, weights: Path, step: int) -> None:
    """Keep `weights`, half-precision parameters of the model in `folder` at an earlier step, under a name: those that
    differ from the model's own."""
    kept, final = stage_file(folder, name), load_file(folder / WEIGHTS)
    kept.parent.mkdir(exist_ok=True)
    changed = {key: tensor for key, tensor in load_file(weights).items() if not torch.equal(tensor, final[key])}
    write_whole(kept, lambda beside: save_file(changed, beside, metadata={"format": "pt"}))
    kept.chmod(0o644)
    promised = checksums(folder)
    stages = {**promised.get("checkpoints", {}), name: {"step": step, "sha256": sha256(kept)}}
    write_json(folder / CHECKSUM, {**promised, "checkpoints": stages})
