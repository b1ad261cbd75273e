"""How options are read that several commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from corelib.errors import BadInput

MODEL = (
    "An embedded model (mini-s), a folder that `corelib train` wrote, a checkpoint of the hub "
    "(Qwen/Qwen3-VL-2B-Instruct) or its folder, or tiny-random:qwen3-vl."
)
DOMAIN = (
    "scenes, documents, video; as text: needle, recital; for models that know the world: collage, folder:PATH (your "
    "own pictures), hub:NAME (public data sets)."
)
# How a published checkpoint is loaded.
Revision = Annotated[str | None, typer.Option(help="Of a checkpoint of the hub: a branch, tag or commit.")]
Device = Annotated[str | None, typer.Option(help="Where a checkpoint goes: cuda, cpu. Left out, a GPU if there is.")]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16. Left out, what the device is fast in.")
]
Spread = Annotated[
    str | None, typer.Option("--device-map", help="auto spreads a checkpoint over several GPUs (needs accelerate).")
]
Quantize = Annotated[str | None, typer.Option(help="8bit or 4bit weights (needs bitsandbytes and an NVIDIA GPU).")]


def chosen(**options: str | None) -> dict[str, str]:
    """The options that were given.

    >>> chosen(revision=None, dtype="float16")
    {'dtype': 'float16'}
    """
    return {name: value for name, value in options.items() if value is not None}


def percent(text: str, option: str = "--top") -> float:
    """`5%` → 0.05."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if not found or not 0 < float(found[1]) <= 100:
        raise BadInput(f"{option} {text}: give a percentage above 0 and up to 100, such as 5%")
    return float(found[1]) / 100
