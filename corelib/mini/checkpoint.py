"""The mini models on disk: a folder becomes a model, and a model a folder (see `core/model_folder.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from corelib.core import model_folder
from corelib.core.results import write_json
from corelib.core.weights import load_whole, quiet_transformers, reading, write_weights
from corelib.mini.processing import MiniProcessor


def load(
    folder: Path, checkpoint: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Qwen3VLForConditionalGeneration, MiniProcessor, str]:
    """Model, processor and weights' sha256 of a folder that `save` wrote; or of an earlier `checkpoint` in it.

    Raises: BadWeights if the weights are missing or damaged, UnknownName if there is no such checkpoint.
    """
    with reading(folder, "config.json"):
        config = Qwen3VLConfig.from_pretrained(folder, local_files_only=True)
    digest = model_folder.verify(folder, checkpoint)
    model: Qwen3VLForConditionalGeneration = load_whole(
        Qwen3VLForConditionalGeneration, folder, config=config, dtype=dtype, local_files_only=True,
        use_safetensors=True, attn_implementation="sdpa",
    )  # fmt: skip
    if checkpoint is not None:
        earlier = load_file(model_folder.stage_file(folder, checkpoint))
        model.load_state_dict({name: tensor.to(dtype) for name, tensor in earlier.items()}, strict=False)
    with reading(folder, "its tokenizer"):
        processor = MiniProcessor(PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True))
    model.train(False)
    return model, processor, digest


def load_untrained(folder: Path, seed: int = 0) -> tuple[Qwen3VLForConditionalGeneration, MiniProcessor]:
    """A model of the same architecture with random weights, and its processor."""
    config = Qwen3VLConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    model.train(False)
    return model, MiniProcessor(PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True))


def _without_tower_rope(path: Path) -> None:
    """Leave the tower's rotary embedding to its class: older transformers do not know the name newer ones write."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["vision_config"].pop("rope_parameters", None)
    write_json(path, config)


def save(folder: Path, model: Qwen3VLForConditionalGeneration, processor: MiniProcessor) -> str:
    """Write a folder that `load` reads, in half precision. Returns the weights' sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    _without_tower_rope(folder / "config.json")
    model.generation_config.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    return write_weights(folder, dict(model.named_parameters()))
