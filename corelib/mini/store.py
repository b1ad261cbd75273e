"""The embedded models on disk: stock `config.json`, tokenizer and safetensors, with a checksum beside them.

weights/mini-s/
    config.json  model.safetensors  tokenizer.json  tokenizer_config.json  generation_config.json
    checksum.json  recipe.toml  card.json  README.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration
from transformers.utils import logging

from corelib.errors import BadInput, BadWeights, UnknownName, UnsupportedArchitecture
from corelib.mini.processing import MiniProcessor
from corelib.results import write_json

ROOT = Path(__file__).parent / "weights"
WEIGHTS, CHECKSUM = "model.safetensors", "checksum.json"


def names() -> tuple[str, ...]:
    """The embedded models that are installed."""
    return tuple(sorted(path.parent.name for path in ROOT.glob(f"*/{WEIGHTS}")))


def locate(name_or_path: str | Path) -> Path:
    """The folder of an embedded model, or of a model you trained yourself."""
    text = str(name_or_path)
    if text in names():
        return ROOT / text
    path = Path(text).expanduser()
    if (path / "config.json").is_file():
        return path
    if path.exists() or any(mark in text for mark in ("\\", "./", "~")) or path.is_absolute():
        raise BadInput(f"{text} is not a model: a folder with config.json and {WEIGHTS} is needed")
    raise UnknownName("model", text, [*names(), "or the path of a folder that `corelib train` wrote"])


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path) -> str:
    """The weights' sha256, after checking it against the one written when they were saved."""
    weights = folder / WEIGHTS
    try:
        promised = json.loads((folder / CHECKSUM).read_text())["sha256"]
        found = sha256(weights)
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        raise BadWeights(f"{folder}: {WEIGHTS} or {CHECKSUM} is missing or unreadable: install it again") from None
    if found != promised:
        raise BadWeights(
            f"{weights} is damaged: its sha256 is {found[:12]}…, {CHECKSUM} says {promised[:12]}…: install it again"
        )
    return found


def load(
    folder: Path, dtype: torch.dtype = torch.float32
) -> tuple[Qwen3VLForConditionalGeneration, MiniProcessor, str]:
    """Model, processor and weights' sha256 of a folder that `save` wrote."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder}: config.json is no model configuration ({str(error).splitlines()[0]})") from None
    if config.model_type != "qwen3_vl":
        raise UnsupportedArchitecture(f"{folder} holds a {config.model_type!r} model; supported: 'qwen3_vl'")
    digest = verify(folder)
    with _quiet():
        model = Qwen3VLForConditionalGeneration.from_pretrained(
            folder, config=config, dtype=dtype, local_files_only=True, use_safetensors=True, attn_implementation="sdpa"
        )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    return model.eval(), MiniProcessor(tokenizer), digest


def _without_tower_rope(path: Path) -> None:
    """Leave the tower's rotary embedding to its class: older transformers do not know the name newer ones write."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["vision_config"].pop("rope_parameters", None)
    write_json(path, config)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar for five megabytes."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def save(
    folder: Path,
    model: Qwen3VLForConditionalGeneration,
    processor: MiniProcessor,
    convert: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.half,
) -> str:
    """Write a folder that `load` reads; half precision by default. Returns the weights' sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    _without_tower_rope(folder / "config.json")
    model.generation_config.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    tensors = {name: convert(parameter.detach().cpu()).contiguous() for name, parameter in model.named_parameters()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    digest = sha256(folder / WEIGHTS)
    write_json(folder / CHECKSUM, {"sha256": digest})
    return digest
