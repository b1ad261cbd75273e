"""Where a module computes. One model may be spread over several GPUs, or wait on the CPU or the disk until it runs.

accelerate (`device_map="auto"`, `cpu_offload`) puts parameters that wait on the device `meta`, which computes nothing;
where a module will run is then known to its hook alone.

Source: accelerate, "Big model inference", https://huggingface.co/docs/accelerate/concept_guides/big_model_inference
"""

from __future__ import annotations

import torch
from torch import nn

from corelib.core.errors import BadInput


def execution_device(module: nn.Module) -> torch.device:
    """The device that a module computes on: the one to which its inputs must be brought.

    It is the execution device of the first accelerate hook in the module or below it, or else the device of its first
    parameter.

    Args:
        module: A part of a model that lies on one device, such as its input embeddings or one layer.

    Raises:
        BadInput: All its parameters are on `meta` and no hook brings them back, or it has none.

    >>> execution_device(nn.Linear(2, 2))
    device(type='cpu')
    """
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):  # one, or a row of them
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    for parameter in module.parameters():
        if parameter.device.type != "meta":
            return parameter.device
    raise BadInput(
        f"{type(module).__name__} is on no device: its parameters are on `meta`, or it has none; load the model with "
        "its weights"
    )
