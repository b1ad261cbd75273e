"""The embedded models on disk: stock `config.json`, tokenizer and safetensors, with a checksum beside them.

    weights/mini-s/
        config.json  model.safetensors  tokenizer.json  tokenizer_config.json  generation_config.json
        checksum.json  recipe.toml  card.json  README.md
        checkpoints/before.safetensors  …   the same model at earlier steps of its training
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration
from transformers.utils import logging

from corelib.errors import BadInput, BadWeights, UnknownName, UnsupportedArchitecture, check_known
from corelib.mini.processing import MiniProcessor
from corelib.results import write_json, write_whole

ROOT = Path(__file__).parent / "weights"
WEIGHTS, CHECKSUM, EARLIER = "model.safetensors", "checksum.json", "checkpoints"


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


def checkpoints(folder: Path) -> dict[str, dict]:
    """The earlier stages of training that are kept beside a model: name → step and sha256."""
    return _checksums(folder).get("checkpoints", {})


def _checksums(folder: Path) -> dict:
    try:
        promised = json.loads((folder / CHECKSUM).read_text())
        promised["sha256"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        raise BadWeights(f"{folder}: {CHECKSUM} is missing or unreadable: install it again") from None
    return promised


def _earlier(folder: Path, checkpoint: str) -> Path:
    return folder / EARLIER / f"{checkpoint}.safetensors"


def verify(folder: Path, checkpoint: str | None = None) -> str:
    """The weights' sha256, after checking it against the one written when they were saved."""
    weights, kept = folder / WEIGHTS, _checksums(folder)
    if checkpoint is not None:
        stages = kept.get("checkpoints", {})
        check_known(f"checkpoint of {folder.name}", checkpoint, tuple(stages))
        weights, kept = _earlier(folder, checkpoint), stages[checkpoint]
    promised = kept["sha256"]
    try:
        found = sha256(weights)
    except OSError:
        raise BadWeights(f"{weights} is missing or unreadable: install it again") from None
    if found != promised:
        raise BadWeights(
            f"{weights} is damaged: its sha256 is {found[:12]}…, {CHECKSUM} says {promised[:12]}…: install it again"
        )
    return found


def load(
    folder: Path, checkpoint: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Qwen3VLForConditionalGeneration, MiniProcessor, str]:
    """Model, processor and weights' sha256 of a folder that `save` wrote; or of an earlier `checkpoint` in it."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder}: config.json is no model configuration ({str(error).splitlines()[0]})") from None
    if config.model_type != "qwen3_vl":
        raise UnsupportedArchitecture(f"{folder} holds a {config.model_type!r} model; supported: 'qwen3_vl'")
    digest = verify(folder, checkpoint)
    with _quiet():
        model = Qwen3VLForConditionalGeneration.from_pretrained(
            folder, config=config, dtype=dtype, local_files_only=True, use_safetensors=True, attn_implementation="sdpa"
        )
    if checkpoint is not None:
        earlier = load_file(_earlier(folder, checkpoint))
        model.load_state_dict({name: tensor.to(dtype) for name, tensor in earlier.items()}, strict=False)
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


def half(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The parameters in half precision, by name; tied ones once."""
    return {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in model.named_parameters()}


def save(folder: Path, model: Qwen3VLForConditionalGeneration, processor: MiniProcessor) -> str:
    """Write a folder that `load` reads, in half precision. Returns the weights' sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    _without_tower_rope(folder / "config.json")
    model.generation_config.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    save_file(half(model), folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    digest = sha256(folder / WEIGHTS)
    write_json(folder / CHECKSUM, {"sha256": digest})
    return digest


def add_checkpoint(folder: Path, name: str, weights: Path, step: int) -> None:
    """Keep `weights`, half-precision parameters of the model in `folder` at an earlier step, under a name."""
    kept = _earlier(folder, name)
    kept.parent.mkdir(exist_ok=True)
    write_whole(kept, lambda beside: shutil.copyfile(weights, beside))
    promised = _checksums(folder)
    stages = {**promised.get("checkpoints", {}), name: {"step": step, "sha256": sha256(kept)}}
    write_json(folder / CHECKSUM, {**promised, "checkpoints": stages})
