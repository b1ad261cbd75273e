"""The published sizes of real models. A model of random weights and this size takes the time of the real one.

    model = build_size("qwen3-vl-2b", layers=2)       # two of its 28 decoder layers, its whole vision tower
    inputs = image_inputs("qwen3-vl-2b", 4096)        # as many pictures as make about 4,096 visual tokens

Numbers are those of each checkpoint's public `config.json`; what does not change the time of a layer (ids, dropout) is
left at its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.initialization import no_init_weights

from corelib.core.errors import BadInput, check_known

IMAGE = 5  # the id of the visual token in these models: any will do
EACH = {"qwen3_vl": 32 * 32, "internvl": 16 * 16, "llava_onevision": 27 * 27 + 27 * 28}  # visual tokens a picture


@dataclass(frozen=True)
class Size:
    """One published model: its decoder, its vision tower, and where the numbers stand."""

    family: str
    text: Mapping[str, Any]  # as in the checkpoint's config.json
    vision: Mapping[str, Any]
    tied: bool  # the output matrix is the embedding
    source: str

    @property
    def layers(self) -> int:
        return int(self.text["num_hidden_layers"])


def _text(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int = 151_936, **more: object
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 128,
        "vocab_size": vocabulary,
        "max_position_embeddings": 262_144,
        **more,
    }


def _qwen3_vl(
    checkpoint: str, hidden: int, vision: tuple[int, int, int, list[int]], text: Mapping[str, Any], tied: bool = False
) -> Size:
    depth, width, inner, deep = vision
    tower = {
        "depth": depth,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_heads": 16,
        "patch_size": 16,
        "out_hidden_size": hidden,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": deep,
    }
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    return Size("qwen3_vl", {**text, "rope_parameters": rope}, tower, tied, f"https://huggingface.co/Qwen/{checkpoint}")


SMALL, LARGE = (24, 1024, 4096, [5, 11, 17]), (27, 1152, 4304, [8, 16, 24])  # vision towers of Qwen3-VL
SIZES = {
    "qwen3-vl-2b": _qwen3_vl("Qwen3-VL-2B-Instruct", 2048, SMALL, _text(2048, 6144, 28, 16, 8), tied=True),
    "qwen3-vl-4b": _qwen3_vl("Qwen3-VL-4B-Instruct", 2560, SMALL, _text(2560, 9728, 36, 32, 8), tied=True),
    "qwen3-vl-8b": _qwen3_vl("Qwen3-VL-8B-Instruct", 4096, LARGE, _text(4096, 12_288, 36, 32, 8)),
    "qwen3-vl-32b": _qwen3_vl("Qwen3-VL-32B-Instruct", 5120, LARGE, _text(5120, 25_600, 64, 64, 8)),
    "internvl3.5-8b": Size(
        "internvl",
        _text(4096, 12_288, 36, 32, 8, model_type="qwen3"),
        {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": [448, 448],
            "patch_size": [14, 14],
        },
        False,
        "https://huggingface.co/OpenGVLab/InternVL3_5-8B-HF",
    ),
    "llava-onevision-7b": Size(
        "llava_onevision",
        _text(3584, 18_944, 28, 28, 4, 152_000, model_type="qwen2"),
        {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 26,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
            "vision_use_head": False,
        },
        False,
        "https://huggingface.co/llava-hf/llava-onevision-qwen2-7b-ov-hf",
    ),
}


def _new(size: Size, layers: int) -> PreTrainedModel:
    text, vision = {**size.text, "num_hidden_layers": layers}, dict(size.vision)
    model: Qwen3VLForConditionalGeneration | InternVLForConditionalGeneration | LlavaOnevisionForConditionalGeneration
    if size.family == "qwen3_vl":
        model = Qwen3VLForConditionalGeneration(
            Qwen3VLConfig(
                text_config=text,
                vision_config=vision,
                tie_word_embeddings=size.tied,
                image_token_id=IMAGE,
                video_token_id=6,
                vision_start_token_id=7,
                vision_end_token_id=8,
            )
        )
    elif size.family == "internvl":
        model = InternVLForConditionalGeneration(
            InternVLConfig(text_config=text, vision_config=vision, image_token_id=IMAGE, image_seq_length=256)
        )
    else:
        model = LlavaOnevisionForConditionalGeneration(
            LlavaOnevisionConfig(
                text_config=text, vision_config=vision, image_token_index=IMAGE, image_grid_pinpoints=[[384, 384]]
            )
        )
    if size.tied:
        model.lm_head.weight = model.model.language_model.embed_tokens.weight
    return model


def build_size(
    name: str, *, layers: int | None = None, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> PreTrainedModel:
    """A model of this size with random weights, or with only its first `layers` decoder layers.

    Raises: UnknownName for a size that is not in `SIZES`, BadInput if it has fewer layers.
    """
    size = SIZES[check_known("geometry", name, SIZES)]
    layers = _layers(size, layers)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.device(device), no_init_weights():
            model = _new(size, layers)
    finally:
        torch.set_default_dtype(before)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.02, 0.02)
    model.train(False)
    return model.requires_grad_(False)


def weight_bytes(name: str, layers: int | None = None, dtype: torch.dtype = torch.bfloat16) -> int:
    """The memory, in bytes, that the weights of `build_size` will take, without taking it."""
    size = SIZES[check_known("geometry", name, SIZES)]
    with torch.device("meta"), no_init_weights():
        model = _new(size, _layers(size, layers))
    return sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize


def image_inputs(
    name: str, tokens: int, *, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> dict[str, Tensor]:
    """Model inputs: pictures of noise that become about `tokens` visual tokens (at least one picture), then a question
    of 16 words. The pictures of a model are all of one size."""
    size = SIZES[check_known("geometry", name, SIZES)]
    each = EACH[size.family]
    count = max(1, round(tokens / each))
    picture = [7, *[IMAGE] * each, 8]
    ids = torch.tensor([[20, 21, 22, 23, *picture * count, *range(30, 46)]], device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype, device=device)

    if size.family == "qwen3_vl":  # 1,024 × 1,024 pixels, patches of 16, four patches a token
        inputs["pixel_values"] = noise(count * 64 * 64, 3 * 2 * 16 * 16)
        inputs["image_grid_thw"] = torch.tensor([[1, 64, 64]] * count, device=device)
        inputs["mm_token_type_ids"] = (ids == IMAGE).int()
    elif size.family == "internvl":  # tiles of 448 × 448 pixels
        inputs["pixel_values"] = noise(count, 3, 448, 448)
    else:  # 384 × 384 pixels: the whole picture, and one tile with a newline token a row
        inputs["pixel_values"] = noise(count, 2, 3, 384, 384)
        inputs["image_sizes"] = torch.tensor([[384, 384]] * count, device=device)
    return inputs


def _layers(size: Size, layers: int | None) -> int:
    if layers is None:
        return size.layers
    if not 1 <= layers <= size.layers:
        raise BadInput(f"{layers} layers: this model has {size.layers}; give 1 to {size.layers}")
    return layers
