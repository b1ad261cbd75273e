"""Tiny random models of the supported families, and inputs for them: no hub, no processor, a few milliseconds.
Also published sizes, shrunk.

All have 2 decoder layers with 6 query heads on 2 key/value heads. Inputs hold two sequences with one image each; the
second is shorter and padded on the left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from corelib.families import sizes

LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, VOCAB = 2, 6, 2, 8, 48, 64
PAD, VISION_START, VISION_END, IMAGE, VIDEO = 0, 58, 59, 60, 61
VISUAL = {
    "qwen3_vl": 4,
    "qwen2_5_vl": 4,
    "internvl": 4,
    "llava_onevision": 10,
    "smolvlm": 4,
    "gemma3": 4,
}  # tokens an image

SPREAD = {"initializer_range": 0.2}  # large enough that attention is far from uniform
TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": PAD,
    **SPREAD,
}
MROPE = {**TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1, **SPREAD}
QWEN_VISION = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "patch_size": 4,
    "temporal_patch_size": 1,
    "spatial_merge_size": 2,
    "out_hidden_size": HIDDEN,
    **SPREAD,
}
QWEN_IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}


def _qwen3_vl() -> PreTrainedModel:
    vision = {**QWEN_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=MROPE, vision_config=vision, **QWEN_IDS))


def _qwen2_5_vl() -> PreTrainedModel:
    vision = {**QWEN_VISION, "window_size": 16, "fullatt_block_indexes": [1]}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=MROPE, vision_config=vision, **QWEN_IDS))


def _internvl() -> PreTrainedModel:
    vision = {**VISION, "image_size": [16, 16], "patch_size": [4, 4]}
    text = {**TEXT, "model_type": "qwen3"}
    config = InternVLConfig(text_config=text, vision_config=vision, image_token_id=IMAGE, image_seq_length=4)
    return InternVLForConditionalGeneration(config)


def _llava_onevision() -> PreTrainedModel:
    vision = {**VISION, "model_type": "siglip_vision_model", "image_size": 8, "patch_size": 4, "vision_use_head": False}
    text = {**TEXT, "model_type": "qwen2"}
    ids = {"image_token_index": IMAGE, "video_token_index": VIDEO, "image_grid_pinpoints": [[8, 8]]}
    return LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig(text_config=text, vision_config=vision, **ids))


def _smolvlm() -> PreTrainedModel:
    vision = {**VISION, "image_size": 16, "patch_size": 4}
    text = {**TEXT, "model_type": "llama"}
    ids = {"image_token_id": IMAGE, "pad_token_id": PAD}  # older versions pad with an id of their own
    config = SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, **ids)
    return SmolVLMForConditionalGeneration(config)


def _gemma3() -> PreTrainedModel:
    """Its first layer slides, and does not see the beginning from the end. Its projector begins at zero."""
    vision = {
        **VISION,
        "model_type": "siglip_vision_model",
        "image_size": 16,
        "patch_size": 4,
        "vision_use_head": False,
    }
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 9}
    text = {**TEXT, "model_type": "gemma3_text", "query_pre_attn_scalar": HEAD_DIM, **layers}
    ids = {"image_token_index": IMAGE, "boi_token_index": VISION_START, "eoi_token_index": VISION_END}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=VISUAL["gemma3"], **ids)
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)
    return model


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen3_vl": _qwen3_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "internvl": _internvl,
    "llava_onevision": _llava_onevision,
    "smolvlm": _smolvlm,
    "gemma3": _gemma3,
}


def tiny_model(family: str, seed: int = 0) -> PreTrainedModel:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return FAMILIES[family]().eval()


def tiny_inputs(family: str, batch: int = 2, padding: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """`batch` sequences: text, one image, text. All but the first are padded on the left by `padding`."""
    make = torch.Generator().manual_seed(seed)
    rows = []
    for index in range(batch):
        pads = padding if index else 0
        words = torch.randint(3, 50, (10 - pads,), generator=make).tolist()
        image = [VISION_START, *[IMAGE] * VISUAL[family], VISION_END]
        rows.append([PAD] * pads + words[:3] + image + words[3:])
    ids = torch.tensor(rows)
    inputs = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
    if family.startswith("qwen"):
        inputs["pixel_values"] = torch.randn(batch * 16, 3 * 1 * 4 * 4, generator=make)
        inputs["image_grid_thw"] = torch.tensor([[1, 4, 4]] * batch)
        inputs["mm_token_type_ids"] = (ids == IMAGE).int()
    elif family == "llava_onevision":
        inputs["pixel_values"] = torch.randn(batch, 2, 3, 8, 8, generator=make)
        inputs["image_sizes"] = torch.tensor([[8, 8]] * batch)
    else:
        if family == "gemma3":
            inputs["token_type_ids"] = (ids == IMAGE).long()
        shape = (batch, 1, 3, 16, 16) if family == "smolvlm" else (batch, 3, 16, 16)
        inputs["pixel_values"] = torch.randn(shape, generator=make)
    return inputs


NARROW = {"hidden_size": 32, "intermediate_size": 32}


def shrunk(size: sizes.Size) -> sizes.Size:
    """The same pictures and the same parts, but narrow, and one layer each."""
    text = {**size.text, **NARROW, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    text |= {"head_dim": 16, "vocab_size": 64}
    if "rope_parameters" in text:
        text["rope_parameters"] = {**text["rope_parameters"], "mrope_section": [4, 2, 2]}
    vision = {**size.vision, **NARROW, "num_hidden_layers": 1, "num_attention_heads": 2}
    if size.family == "qwen3_vl":
        vision |= {"depth": 1, "num_heads": 2, "out_hidden_size": 32, "deepstack_visual_indexes": [0]}
    return replace(size, text=text, vision=vision)
