"""The mini models' architecture: a stock `Qwen3VLForConditionalGeneration`, small.

Everything that makes the real Qwen3-VL what it is stays: 16-pixel patches merged 2×2 into 32-pixel visual tokens,
interleaved multimodal RoPE, grouped queries, q/k-norm, DeepStack. One thing differs: `temporal_patch_size` is 1,
so a frame of a clip is a frame in the sequence, and "which frame" has an exact answer.

The initial weights are wide (`initializer_range` 0.05): at this width the big models' 0.02 does not train.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from corelib.mini.vocabulary import build_tokenizer, token_id

PATCH, MERGE = 16, 2


@dataclass(frozen=True, kw_only=True)
class Size:
    """What differs between mini models."""

    layers: int = 6
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    hidden: int = 128
    feed_forward: int = 256
    vision_layers: int = 3
    vision_heads: int = 4
    vision_hidden: int = 128
    vision_feed_forward: int = 256
    deepstack: tuple[int, ...] = (1,)


SIZES = {
    "mini-s": Size(),
    "mini-m": Size(layers=10, heads=12, hidden=256, feed_forward=640),  # 120 heads; the vision tower is the same
}


def configuration(size: Size) -> Qwen3VLConfig:
    """The configuration of a mini model of this size, with the ids of its own tokenizer."""
    tokenizer = build_tokenizer()
    third = size.head_dim // 6  # of the rotary frequencies, to height and to width; the rest to time
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": size.hidden,
            "intermediate_size": size.feed_forward,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.kv_heads,
            "head_dim": size.head_dim,
            "initializer_range": 0.05,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [size.head_dim // 2 - 2 * third, third, third],
                "mrope_interleaved": True,
            },
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.vision_hidden,
            "intermediate_size": size.vision_feed_forward,
            "num_heads": size.vision_heads,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 1,
            "out_hidden_size": size.hidden,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": list(size.deepstack),
            "initializer_range": 0.05,
        },
        image_token_id=token_id(tokenizer, "<|image_pad|>"),
        video_token_id=token_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=token_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=token_id(tokenizer, "<|vision_end|>"),
        tie_word_embeddings=True,
    )


def build_mini(size: Size, seed: int) -> Qwen3VLForConditionalGeneration:
    """An untrained model, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3VLForConditionalGeneration(configuration(size))
