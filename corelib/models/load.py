"""One function for every model that the book can open: `load`.

load("mini-s")                          # a bundled model; "bridge", "smollm2", …
load("Qwen/Qwen3-VL-2B-Instruct")       # a published checkpoint, from the hub or from a folder
load("tiny-random:qwen3-vl")            # a published architecture, tiny, with random weights
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from corelib.core import model_folder
from corelib.core.errors import BadInput
from corelib.core.memory import check_device
from corelib.families import tiny
from corelib.models import checkpoints, hub
from corelib.models.bundled import open_bundled
from corelib.models.checkpoints import HubOptions
from corelib.models.vlm import VLM


def load(
    name_or_path: str | Path = "mini-s",
    *,
    checkpoint: str | None = None,
    untrained: bool = False,
    device: str | None = None,
    **options: Unpack[HubOptions],
) -> VLM:
    """Load a bundled model by name, a published checkpoint by its name on the hub, or either by its folder. The model
    is in evaluation mode, and its weights take no gradients.

    * `mini-s`, `bridge`, …: a model inside the package; or the folder of one that `corelib train` wrote. `checkpoint`
      loads an earlier stage of its training, if one is kept: `before`, `at` or `after` the phase transition;
      `untrained` one with the same architecture and random weights. `smollm2` is the language model under the bridge,
      before it learned to see.
    * `Qwen/Qwen3-VL-2B-Instruct`, …: a checkpoint of the hub, or the folder of one. The `options` are those of
      `corelib.models.checkpoints.open_checkpoint`: revision, dtype, device_map, quantize.
    * `tiny-random:qwen3-vl`, …: a tiny model of a published family with random weights.

    `device`: left out, the CPU for a bundled or tiny model; for a published one a GPU, if there is one.

    Raises: UnknownName (no such model), BadInput (options that the model does not take), BadWeights (damaged or missing
    weights), UnsupportedArchitecture.

    >>> load("mini-xs")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    corelib.core.errors.UnknownName: unknown model 'mini-xs': did you mean 'mini-s'? (allowed: ...
    """
    text = str(name_or_path)
    if is_published(text):
        for name, given in (("checkpoint", checkpoint), ("untrained", untrained)):
            if given:
                raise BadInput(f"{name}={given!r}: {text} takes no such option; it is of bundled models")
        if text.startswith(tiny.PREFIX):
            _no_options(text, options)
            model, family, identity = checkpoints.load_tiny(text)
            return _ready(VLM(text, model, family, identity), device)
        model, family, identity = checkpoints.open_checkpoint(name_or_path, device=device, **options)
        return VLM(text if hub.is_hub_id(text) else Path(text).name, model, family, identity)
    _no_options(text, options)
    return _ready(VLM(*open_bundled(name_or_path, checkpoint, untrained)), device)


def _ready(vlm: VLM, device: str | None) -> VLM:
    """On its device, in evaluation mode, without gradients."""
    vlm.model.eval().requires_grad_(False)
    if device is not None:
        check_device(device)
        vlm.model.to(device)  # type: ignore[arg-type]  # transformers wraps Module.to without its self
    return vlm


def is_published(name: str) -> bool:
    """Is it a published checkpoint (or a tiny model of its family), and not one of ours?"""
    if name.startswith(tiny.PREFIX) or hub.is_hub_id(name):
        return True
    folder = Path(name).expanduser()
    ours = model_folder.bundled_names()
    return name not in ours and any(os.path.isfile(folder / file) for file in checkpoints.PREPROCESSOR)


def _no_options(name: str, options: HubOptions) -> None:
    if options:
        raise BadInput(f"{', '.join(options)}: {name} takes no such options; they are of published checkpoints")
