"""How much memory a run takes, told before it begins: from the shapes of its inputs and the sizes of its model.

    batch = vlm.encode(draw.take(range(2)))
    print(estimate_reading(vlm, batch))     # about 5.2 GiB of memory: 4.3 weights, 0.9 activations, …

What is counted are the tensors that are alive at the fullest moment of a pass without gradients. That is one layer's
work, either of the vision tower or of the decoder, or the logits; the rest is gone by then. Beside it stands what the
run keeps: attention that was read, whole passes, a key/value cache.

Counted by hand from the code of the families in transformers, with fused attention (`sdpa`), and held to measured peaks
on a processor (`tests/test_memory.py`). Allocators keep more than that: that of the C library does not hand back freed
tensors below 32 MiB at once. Not measured: GPUs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from corelib.attention.interface import attention_modules
from corelib.core.memory import ON_CPU, check_fits, decoder_sizes, free_memory
from corelib.models.batch import Batch
from corelib.models.devices import execution_device
from corelib.models.vlm import VLM

LOOKS = 5  # copies of the attention that is read, while a score is made of it


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run takes, by what takes them."""

    weights: int = 0  # parameters, each once
    tower: int = 0  # activations of one layer of the vision tower, on all patches of a batch
    layer: int = 0  # of one layer of the decoder, on all tokens
    logits: int = 0  # of the rows that predict the answer
    recorded: int = 0  # attention, or whole passes, that the run keeps
    cache: int = 0  # keys and values while an answer is written

    @property
    def fullest(self) -> dict[str, int]:
        """What is there at the fullest moment, beside the weights: the tower is done before the decoder begins, and
        the layers before the logits."""
        last = "layer" if self.layer >= self.logits else "logits"
        moments = (("tower",), (last, "recorded", "cache"))
        found = [{name: getattr(self, name) for name in moment} for moment in moments]
        return max(found, key=lambda parts: sum(parts.values()))

    @property
    def beside_weights(self) -> int:
        """What must be free once the model is loaded."""
        return sum(self.fullest.values())

    @property
    def total(self) -> int:
        """Weights and all."""
        return self.weights + self.beside_weights

    def __str__(self) -> str:
        """
        >>> print(MemoryEstimate(weights=3 * 2**30, layer=2**30, logits=2**28, cache=2**29))
        about 4.5 GiB of memory: 3.0 weights, 1.0 layer, 0.5 cache
        """
        unit, name, digits = (2**30, "GiB", 1) if self.total >= 2**30 else (2**20, "MiB", 0)
        parts = {"weights": self.weights, **self.fullest}
        sizes = {what: round(size / unit, digits) for what, size in parts.items()}
        said = ", ".join(f"{size:.{digits}f} {what}" for what, size in sizes.items() if size)
        return f"about {self.total / unit:.{digits}f} {name} of memory: {said}"


def estimate_pass(model: PreTrainedModel, inputs: Mapping[str, Tensor], *, logit_rows: int = 1) -> MemoryEstimate:
    """One forward pass without a cache, of which so many rows a sequence become logits.

    Only shapes, dtypes and padding of the inputs are looked at; the model may lie on the device `meta`.
    """
    batch, length = inputs["input_ids"].shape
    each, sizes = model.dtype.itemsize, decoder_sizes(model.config)
    stream = batch * length * sizes.width * each
    layer = batch * length * sizes.layer * each
    if not _all_seen(inputs):  # the mask is written out, [sequence, 1, query, key], and once more for the kernel
        masks = batch * length**2
        layer = max(layer, batch * length * sizes.attention * each + masks * each) + masks
    words = model.config.get_text_config().vocab_size
    return MemoryEstimate(
        weights=sum(one.numel() * one.element_size() for one in model.parameters()),
        tower=stream + _tower(model, inputs),
        layer=layer,
        logits=stream + batch * logit_rows * words * _logit_bytes(each),
    )


def estimate_reading(vlm: VLM, batch: Batch, *, quantities: int = 1) -> MemoryEstimate:
    """Scores of heads from one pass over a batch (`read_heads`): the rows of question and answer are read."""
    sequences, length = batch.tokens.shape
    looked = sequences * vlm.num_heads * int(batch.lengths.sum(1).max())
    kept = 4 * looked * vlm.num_layers * quantities
    return replace(_answered(vlm, batch), recorded=kept + LOOKS * 4 * looked * length)


def estimate_replay(vlm: VLM, batch: Batch, *, passes: int = 1, sets: int = 1) -> MemoryEstimate:
    """Answers of a batch under so many `sets` of heads, gone on from so many kept `passes` over it (`replay`).

    At most: sets that begin in several layers do not all run at once.
    """
    sequences, length = batch.tokens.shape
    once, each, sizes = _answered(vlm, batch), vlm.model.dtype.itemsize, decoder_sizes(vlm.model.config)
    pictures = Counter(sample.cluster for sample in batch.samples)
    # Questions share their picture (`share_prefix`), and many sets run at once.
    folded = len(pictures) * (length + (max(pictures.values()) - 1) * int(batch.lengths.sum(1).max()))
    shared = folded * vlm.num_layers * sizes.kept * each if len(pictures) < sequences else 0
    at_once = min(sets, max(1, ON_CPU // len(pictures))) if _devices(vlm)[0].type == "cpu" else 1
    work = at_once * folded * sizes.layer * each
    kept = passes * sequences * length * vlm.num_layers * sizes.kept * each
    return replace(once, layer=max(once.layer, work, shared), recorded=kept)


def estimate_writing(vlm: VLM, batch: Batch, tokens: int) -> MemoryEstimate:
    """Answers of at most so many tokens, written with a key/value cache."""
    sequences, length = batch.tokens.shape
    each, sizes = vlm.model.dtype.itemsize, decoder_sizes(vlm.model.config)
    cache = sequences * (length + tokens) * vlm.num_layers * 2 * sizes.keys * each
    return replace(estimate_pass(vlm.model, batch.inputs), cache=cache)


def check_room(vlm: VLM, estimate: MemoryEstimate, instead: str) -> int | None:
    """The bytes that are free on the fullest of the model's devices, now that it is loaded; None where the system does
    not tell. `instead` says what to change if they are too few.

    Raises: BadInput if the run will not fit.
    """
    device = min(_devices(vlm), key=lambda one: free_memory(one) or 0)
    check_fits("activations and what is kept", estimate.beside_weights, device, instead)
    return free_memory(device)


def _answered(vlm: VLM, batch: Batch) -> MemoryEstimate:
    return estimate_pass(vlm.model, batch.inputs, logit_rows=int(batch.lengths[:, 2].max()) + 1)


def _devices(vlm: VLM) -> list[torch.device]:
    return list(dict.fromkeys(execution_device(module) for module in attention_modules(vlm.model)))


def _all_seen(inputs: Mapping[str, Tensor]) -> bool:
    """Is there no padding? Then no mask is needed."""
    mask = inputs.get("attention_mask")
    return mask is None or mask.is_meta or bool(mask.all())


def _logit_bytes(each: int) -> int:
    """Of one logit: itself, in single precision, and its log-probability."""
    return each + 4 + (4 if each < 4 else 0)


def _tower(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> int:
    """One layer of the vision tower at work on all patches of a batch, and pixels that are copied for it."""
    config: Any = getattr(model.config, "vision_config", None)
    most = 0
    for name in ("pixel_values", "pixel_values_videos"):
        if config is None or name not in inputs:
            continue
        pixels, side = inputs[name], config.patch_size
        side = side if isinstance(side, int) else side[0]
        patches = len(pixels) if pixels.ndim == 2 else pixels.numel() // (pixels.shape[-3] * side**2)
        gates = 3 if hasattr(config, "fullatt_block_indexes") else 2  # of Qwen2.5-VL, as in a decoder
        width, inner = config.hidden_size, config.intermediate_size
        angles = 2 * width // getattr(config, "num_heads", width)  # of Qwen's rotations, sines and cosines
        work = max(10 * width, 5 * width + gates * inner) + angles
        most = max(most, patches * work * model.dtype.itemsize)
        if pixels.ndim == 5:  # pictures of several tiles: those that are there are taken out of their padding
            most += sum(inputs[one].nbytes for one in (name, "pixel_attention_mask") if one in inputs)
    return most
