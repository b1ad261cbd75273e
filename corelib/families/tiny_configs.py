"""What a tiny model of each published family is made of: configuration, chat template, tokens, processors.

Everything is as in the real checkpoints, but smaller: tiles of about 112 pixels, and a language model of 4 layers with
8 query heads and 4 KV heads. `tiny.py` builds the models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import transformers
from transformers import PretrainedConfig

from corelib.families import gemma3, internvl, llava_onevision, qwen2_5_vl, qwen3_vl, smolvlm
from corelib.families.chat import Chat
from corelib.families.tiny_templates import GEMMA, INTERNVL, LLAVA, QWEN, SMOL

SPREAD = {"initializer_range": 0.2}  # large enough that attention is far from uniform


@dataclass(frozen=True)
class TinyFamily:
    """How a tiny model of one family is made."""

    family: type[Chat]
    template: str
    special: tuple[str, ...]  # tokens beside the bytes
    config: Callable[[Callable[[str], int]], PretrainedConfig]  # of a function from tokens to ids
    pixels: dict[str, Any]  # settings of the image processor
    video: dict[str, Any]  # of the video processor


def text_config(kind: str, size: int, **more: object) -> dict[str, Any]:
    """The settings of a tiny language model of this `kind`, with a vocabulary of `size` tokens."""
    return {
        "model_type": kind,
        "vocab_size": size,
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "max_position_embeddings": 32_768,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
        **SPREAD,
        **more,
    }


VISION = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, **SPREAD}
QWEN_VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 128, **SPREAD}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
SIZE = 512  # of the vocabulary
PLAIN = ("<|endoftext|>", "<|im_end|>", "<|im_start|>")  # padding, the end of an answer, the beginning of a turn


def _qwen_ids(at: Callable[[str], int]) -> dict[str, Any]:
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{key}_token_id": at(f"<|{name}|>") for key, name in names.items()}


def _qwen2_5_vl(at: Callable[[str], int]) -> PretrainedConfig:
    text = text_config("qwen2_5_vl_text", SIZE, rope_parameters=ROPE)
    vision = {**QWEN_VISION, "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1]}
    return transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_ids(at))


def _qwen3_vl(at: Callable[[str], int]) -> PretrainedConfig:
    text = text_config("qwen3_vl_text", SIZE, rope_parameters={**ROPE, "mrope_interleaved": True})
    vision = {**QWEN_VISION, "patch_size": 16, "num_position_embeddings": 256, "deepstack_visual_indexes": [0]}
    return transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **_qwen_ids(at))


def _internvl(at: Callable[[str], int]) -> PretrainedConfig:
    vision = {**VISION, "image_size": [112, 112], "patch_size": [14, 14]}
    return transformers.InternVLConfig(
        text_config=text_config("qwen3", SIZE),
        vision_config=vision,
        image_token_id=at("<IMG_CONTEXT>"),
        image_seq_length=16,
    )


LLAVA_TILE = 104  # as 384 in the real one, no whole number of patches of 14 pixels


GEMMA_WINDOW = 64  # tokens: a question is longer, and its picture out of reach


def _llava_onevision(at: Callable[[str], int]) -> PretrainedConfig:
    vision = {**VISION, "model_type": "siglip_vision_model", "patch_size": 14, "image_size": LLAVA_TILE}
    return transformers.LlavaOnevisionConfig(
        text_config=text_config("qwen2", SIZE),
        vision_config={**vision, "vision_use_head": False},
        image_token_index=at("<image>"),
        video_token_index=at("<video>"),
        image_grid_pinpoints=_pinpoints(LLAVA_TILE),
    )


def _smolvlm(at: Callable[[str], int]) -> PretrainedConfig:
    vision = {**VISION, "image_size": 128, "patch_size": 16}
    return transformers.SmolVLMConfig(
        text_config=text_config("llama", SIZE),
        vision_config=vision,
        scale_factor=4,
        image_token_id=at("<image>"),
        pad_token_id=0,  # type: ignore[call-arg]  # transformers takes it, but does not declare it
    )


def _gemma3(at: Callable[[str], int]) -> PretrainedConfig:
    layers = ["sliding_attention", "full_attention"] * 2
    vision = {**VISION, "model_type": "siglip_vision_model", "image_size": 112, "patch_size": 14}
    text = text_config(
        "gemma3_text", SIZE, layer_types=layers, sliding_window=GEMMA_WINDOW, query_pre_attn_scalar=16, bos_token_id=2
    )
    return transformers.Gemma3Config(
        text_config=text,
        vision_config={**vision, "vision_use_head": False},
        mm_tokens_per_image=16,
        image_token_index=at("<image_soft_token>"),
        boi_token_index=at("<start_of_image>"),
        eoi_token_index=at("<end_of_image>"),
    )


def _pinpoints(tile: int) -> list[list[int]]:
    return [[tile * rows, tile * columns] for rows in range(1, 7) for columns in range(1, 7)]


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


QWEN_MARKS = (*PLAIN, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
LINES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
KINDS = {
    "qwen3-vl": TinyFamily(
        qwen3_vl.Qwen3VL,
        QWEN,
        QWEN_MARKS,
        _qwen3_vl,
        {"patch_size": 16, "size": {"shortest_edge": 32 * 32, "longest_edge": 320 * 320}},
        {"size": {"shortest_edge": 4 * 32 * 32, "longest_edge": 8 * 320 * 320}},  # of all frames together
    ),
    "qwen2.5-vl": TinyFamily(
        qwen2_5_vl.Qwen25VL,
        QWEN,
        QWEN_MARKS,
        _qwen2_5_vl,
        {"size": {"shortest_edge": 28 * 28, "longest_edge": 280 * 280}},
        {"size": {"shortest_edge": 56 * 56, "longest_edge": 252 * 252}},
    ),
    "internvl": TinyFamily(
        internvl.InternVL,
        INTERNVL,
        (*PLAIN, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        _internvl,
        {"size": _square(112), "crop_to_patches": True},
        {"size": _square(112)},
    ),
    "llava-onevision": TinyFamily(
        llava_onevision.LlavaOnevision,
        LLAVA,
        (*PLAIN, "<image>", "<video>"),
        _llava_onevision,
        {"size": _square(LLAVA_TILE), "image_grid_pinpoints": _pinpoints(LLAVA_TILE)},
        {"size": _square(LLAVA_TILE)},
    ),
    "smolvlm": TinyFamily(
        smolvlm.SmolVLM,
        SMOL,
        (*PLAIN, "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>", *LINES),
        _smolvlm,
        {"size": {"longest_edge": 512}, "max_image_size": {"longest_edge": 128}},
        {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 128}},
    ),
    "gemma3": TinyFamily(
        gemma3.Gemma3,
        GEMMA,
        (
            "<pad>",
            "<end_of_turn>",
            "<bos>",
            "<start_of_turn>",
            "<start_of_image>",
            "<image_soft_token>",
            "<end_of_image>",
        ),
        _gemma3,
        {"size": _square(112)},
        {},  # it takes no clips
    ),
}
