"""A model that is in memory already: your own fine-tuned, adapted or quantised one, with the processor beside it.

    model = Qwen3VLForConditionalGeneration.from_pretrained(…).eval()
    vlm = wrap(PeftModel.from_pretrained(model, "my-adapter"), AutoProcessor.from_pretrained(…))
    vlm.ask([image], "What is the total?")
    score_heads(vlm, task("folder:my-pictures").draw("select", samples=64))

The model stays as it is: where it lies, in which dtype, with which attention. Nothing is copied, loaded or written.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from corelib.core.errors import BadInput, UnsupportedArchitecture
from corelib.core.weights import weights_checksum
from corelib.models.checkpoints import FAMILIES
from corelib.models.vlm import VLM


def wrap(model: PreTrainedModel | nn.Module, processor: Any, *, name: str = "", identity: str = "") -> VLM:
    """A supported model and its processor, as `load` would give them.

    Args:
        model: A model of a supported family, in evaluation mode; a PEFT model around one is taken as it is.
        processor: The processor of its checkpoint: its tokenizer, settings and chat template are read. Pictures are
            prepared without torchvision, which gives the same pixels everywhere. Clips need its video processor.
        name: What results call it; left out, the name that its configuration has.
        identity: What tells its weights from others, such as a commit; left out, a checksum of all of them
            (`weights_checksum`), adapters included.

    Raises:
        UnsupportedArchitecture: It is of no supported family.
        BadInput: It is in training mode, weights are not in memory, or the processor lacks a part.

    >>> from corelib.families.tiny import build_tiny
    >>> model, family = build_tiny("smolvlm")
    >>> wrap(model, family.image_processor)
    Traceback (most recent call last):
        ...
    corelib.core.errors.BadInput: the processor has no tokenizer: give that of the checkpoint (AutoProcessor)
    """
    unwrapped = getattr(model, "get_base_model", None)  # of a PEFT model
    inner: Any = unwrapped() if callable(unwrapped) else model
    kind = str(getattr(getattr(inner, "config", None), "model_type", type(inner).__name__))
    if kind not in FAMILIES or type(inner).__name__ != FAMILIES[kind].architecture:
        known = ", ".join(family.architecture for family in FAMILIES.values())
        raise UnsupportedArchitecture(
            f"this is a {type(inner).__name__}; supported: {known} (how to add one: the book, 'Add your own family')"
        )
    if model.training:
        raise BadInput("the model is in training mode, where dropout makes answers random: call model.eval() first")
    for part in ("tokenizer", "image_processor"):
        if getattr(processor, part, None) is None:
            raise BadInput(f"the processor has no {part}: give that of the checkpoint (AutoProcessor)")
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    if not isinstance(template, str):
        raise BadInput("the processor has no chat template: set processor.chat_template to that of the checkpoint")
    family = FAMILIES[kind]
    images = family.processor.from_dict(processor.image_processor.to_dict())
    video = getattr(processor, "video_processor", None)
    settings = None if video is None else video.to_dict()
    called = name or str(getattr(inner.config, "_name_or_path", "")).rstrip("/") or kind
    adapter = family(inner.config, processor.tokenizer, images, template, settings)
    return VLM(called, model, adapter, identity or weights_checksum(model))  # type: ignore[arg-type]  # or PEFT's
