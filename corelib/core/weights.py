"""Weights in half precision, with their checksum, in the folder of a bundled model; and the checksum of a model that
is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from corelib.core.errors import BadInput, BadWeights, CorelibError
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


@contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong while other people's code reads a part of a folder becomes one line.

    Raises: BadWeights, unless it is an error of ours.
    """
    try:
        yield
    except CorelibError:
        raise
    except Exception as error:
        said = (str(error).strip() or "no reason given").splitlines()[0]
        raise BadWeights(
            f"{folder}: {what} cannot be used ({type(error).__name__}: {said:.200}): download it again"
        ) from error


def check_size(kind: Any, config: Any, folder: Path) -> None:
    """Refuse a configuration of a model that is far larger than the weights in the folder: it would be built first, and
    found not to fit afterwards.

    Raises: BadWeights if it has more than twice as many weights, which no tied embedding explains.
    """
    with reading(folder, "config.json"), quiet_transformers(), torch.device("meta"):
        wanted = sum(parameter.numel() for parameter in kind(deepcopy(config)).parameters())
    stored = count_weights(sorted(folder.glob("*.safetensors")))
    if wanted > 2 * stored:
        raise BadWeights(
            f"{folder}: config.json describes a model of {wanted:,} weights, {stored:,} are there: its files are not "
            "of one model; download it again"
        )


def load_whole(kind: Any, folder: Path, *, config: Any, **options: Any) -> Any:
    """`kind.from_pretrained(folder)`, if all weights of the model are there, in their shapes, and no others.

    Raises: BadWeights, which names the first that are not: transformers would fill them with random numbers.
    """
    check_size(kind, config, folder)
    try:
        with quiet_transformers():
            model, report = kind.from_pretrained(folder, config=config, output_loading_info=True, **options)
    except (RuntimeError, SafetensorError) as error:
        raise BadWeights(
            f"the weights in {folder} do not fit ({str(error).splitlines()[0]}): download it again"
        ) from None
    for what in ("missing", "unexpected", "mismatched"):
        names = sorted(one if isinstance(one, str) else one[0] for one in report.get(f"{what}_keys") or ())
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise BadWeights(
                f"{folder} has {what} weights ({names[0]}{more}): its files and its config.json are not of one model; "
                "download it again"
            )
    return model


def count_weights(files: Iterable[Path]) -> int:
    """How many numbers are in safetensors files, by their headers: whatever their dtype.

    Raises: BadWeights if a file is damaged.
    """
    count = 0
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                count += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())
        except (SafetensorError, OSError) as error:
            raise BadWeights(f"{path} is damaged ({error}): download it again") from None
    return count


def to_half(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parameters in half precision."""
    return {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in parameters.items()}


def write_weights(folder: Path, parameters: Mapping[str, torch.Tensor]) -> str:
    """Write a folder's weights, in half precision, and their checksum. Returns the sha256."""
    half = to_half(parameters)
    write_whole(folder / WEIGHTS, lambda beside: save_file(half, beside, metadata={"format": "pt"}))
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


def weights_checksum(model: torch.nn.Module) -> str:
    """The SHA-256 of all parameters and buffers that are saved, with their names, shapes and dtypes.

    Raises:
        BadInput: Some are not in memory (offloaded to disk).

    >>> one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    >>> _ = other.load_state_dict(one.state_dict())
    >>> mine, theirs, another = map(weights_checksum, (one, other, torch.nn.Linear(2, 2)))
    >>> mine == theirs, mine == another
    (True, False)
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not isinstance(value, torch.Tensor):
            continue  # what quantised layers remember beside their weights
        if value.is_meta:
            raise BadInput(f"{name} is not in memory: give an identity, such as the commit of the checkpoint")
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
