"""Low-rank adapters on the language model's attention projections (LoRA, by the library peft).

A frozen weight W, [out, in], is used as W + α/r · B A with A [r, in] and B [out, r]: B begins at zero, so the language
model begins unchanged. Merged, the sum takes W's place.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import SmolVLMForConditionalGeneration

from corelib.bridge.architecture import new_parts
from corelib.core.errors import BadWeights, MissingPackage

RANK = 16
ALPHA = 2 * RANK
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj")


class Wrapped(Protocol):
    """What is asked of peft's wrapper around a model with adapters."""

    def merge_and_unload(self) -> nn.Module: ...


def put_on(model: SmolVLMForConditionalGeneration, seed: int) -> Wrapped:
    """Put untrained adapters on `model`, in place, the same for the same seed. Returns peft's wrapper around it, for
    `merge`.

    Raises: MissingPackage without peft.
    """
    if find_spec("peft") is None:
        raise MissingPackage("bridge needs peft: run `pip install peft`")
    from peft import LoraConfig, get_peft_model

    plan = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=rf".*text_model.*\.({'|'.join(ADAPTED)})")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)  # peft asks
        torch.manual_seed(seed)
        wrapped: Wrapped = get_peft_model(model, plan)
    return wrapped


@contextmanager
def off(model: nn.Module) -> Iterator[None]:
    """The language model as if it had no adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    learning = {name: parameter.requires_grad for name, parameter in adapters(model).items()}
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for name, parameter in adapters(model).items():  # switching changes this too
            parameter.requires_grad_(learning[name])


def merge(wrapped: Wrapped) -> SmolVLMForConditionalGeneration:
    """The model with its adapters added to the weights: the wrapper and the adapters are gone.

    Raises: BadWeights if the adapters were on another kind of model.
    """
    merged = wrapped.merge_and_unload()
    if not isinstance(merged, SmolVLMForConditionalGeneration):
        raise BadWeights(f"the adapters were on a {type(merged).__name__}, not on a bridge")
    return merged


def adapters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapters' parameters, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}


def trained(model: SmolVLMForConditionalGeneration) -> dict[str, nn.Parameter]:
    """All that the language model did not bring: tower, connector and adapters."""
    new = {id(parameter) for part in new_parts(model) for parameter in part.parameters()}
    new |= {id(parameter) for parameter in adapters(model).values()}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in new}


def set_trained(model: SmolVLMForConditionalGeneration, weights: Mapping[str, Tensor]) -> None:
    """Fill tower, connector and adapters with `weights`.

    Raises: BadWeights if these are of other parameters.
    """
    mine = trained(model)
    if mine.keys() != weights.keys():
        strange = sorted(mine.keys() ^ weights.keys())
        raise BadWeights(f"these weights are not of this bridge: {len(strange)} names differ, such as {strange[0]}")
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(weights[name])
