"""The bridge's architecture: a stock `SmolVLMForConditionalGeneration` with a small vision tower.

The language model is pretrained and stays as it is. New are the tower, the connector (a pixel shuffle, which makes one
visual token of 2×2 patches, and one linear layer) and a low-rank adapter on every attention projection of the language
model. A visual token covers 32×32 pixels, as in the mini models.

The language model's vocabulary has no word for a picture. `<empty_output>`, a word that none of our texts uses, holds
the place of a visual token: its embedding is overwritten by the pixels'.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

from corelib.core.weights import quiet_transformers

PATCH, MERGE = 16, 2
CANVAS = 256  # pixels: the widest picture, each way
PLACES = 48  # learned positions, each way: SmolVLM spreads the patches of any canvas evenly over them, and 6, 12 and 16
# patches then lie evenly (over 16 places, 12 patches would lie at 0, 1, 2, 4, 5, 6, 8, …)
PLACEHOLDER = "<empty_output>"
PLACEHOLDER_ID = 16
PAD_ID = 0  # <|endoftext|>; the language model's own pad token also ends an answer


def configuration(language: Path) -> SmolVLMConfig:
    """The language model's own configuration, and beside it that of the new parts."""
    text = LlamaConfig.from_pretrained(language, local_files_only=True)
    return SmolVLMConfig(
        text_config={**text.to_dict(), "pad_token_id": PAD_ID, "dtype": "float32"},
        vision_config={
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "image_size": PLACES * PATCH,
            "patch_size": PATCH,
            "initializer_range": 0.05,  # at this width the big towers' 0.02 does not train
        },
        scale_factor=MERGE,
        image_token_id=PLACEHOLDER_ID,
        pad_token_id=PAD_ID,  # type: ignore[call-arg]  # transformers takes it, but does not declare it
        tie_word_embeddings=True,
    )


def build_bridge(language: Path, seed: int) -> SmolVLMForConditionalGeneration:
    """The language model in `language` behind an untrained tower and connector, the same for the same seed."""
    known = {
        name.replace("model.", "model.text_model.", 1): tensor.float()
        for name, tensor in load_file(language / "model.safetensors").items()
    }
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)  # tower and connector are not in `known`: transformers initialises them
        model = SmolVLMForConditionalGeneration.from_pretrained(
            None, config=configuration(language), state_dict=known, attn_implementation="sdpa"
        )
    positions = model.model.vision_model.embeddings.position_embedding.weight
    connector = model.model.connector.modality_projection.proj.weight
    with torch.no_grad():
        positions.copy_(waves(positions.shape[1]))
        # a visual token begins as long as a word
        connector.mul_(word_scale(model) / (connector.std() * connector.shape[1] ** 0.5))
    return model


def waves(width: int) -> Float[Tensor, "place width"]:
    """Where the learned positions begin: sines and cosines of column and row, so that a neighbour is a rotation away.

    Half of the numbers tell the column, half the row, in `width` / 4 wave lengths from 2π to 200π patches of the widest
    canvas.
    """
    patches = torch.arange(PLACES) * (CANVAS / PATCH / PLACES)
    angles = patches[:, None] / 100 ** (torch.arange(width // 4) / (width // 4))
    along = torch.cat((angles.sin(), angles.cos()), 1)
    rows, columns = along[:, None].expand(-1, PLACES, -1), along[None].expand(PLACES, -1, -1)
    return torch.cat((columns, rows), -1).reshape(PLACES**2, width)


def word_scale(model: SmolVLMForConditionalGeneration) -> float:
    """The root mean square of the numbers in a word's embedding."""
    words: Float[Tensor, "word width"] = model.model.text_model.get_input_embeddings().weight
    return words.square().mean().sqrt().item()


def new_parts(model: SmolVLMForConditionalGeneration) -> list[nn.Module]:
    """Tower and connector: what the language model did not bring."""
    return [model.model.vision_model, model.model.connector]
