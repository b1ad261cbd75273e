"""Which pictures and clips the stock processors were asked for, and how what they made of them is written down.

`tools/golden.py` writes `tests/golden/` by it, in an environment that has torchvision; `test_golden.py` reads that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from corelib import Sample

GOLDEN = Path(__file__).parent / "golden"
QUESTION = "What is it?"
SIZES = (  # width and height: ordinary, of primes, smaller than a token, up to 150 to 1, larger than any budget
    (192, 256), (128, 160), (640, 480), (97, 101), (64, 64), (32, 32),
    (20, 30), (33, 400), (400, 33), (9, 1350), (1350, 9), (1000, 700),
)  # fmt: skip
SEVERAL = (((200, 300), (640, 100)), ((90, 90), (310, 120), (64, 64)))
PACES = ((6, 1.0), (3, 0.5), (2, 0.3), (5, 2.0), (4, 40.0))  # frames of a clip, and the seconds between two of them
SHOWN = 32  # values of a float tensor that are written down


@dataclass(frozen=True)
class Case:
    """One question about pictures of these sizes, or about a clip."""

    sizes: tuple[tuple[int, int], ...]
    frames: int = 0  # of a clip; 0: pictures
    seconds: float = 1.0

    @property
    def name(self) -> str:
        shown = "+".join(f"{width}x{height}" for width, height in self.sizes)
        return f"clip {self.frames}x{shown} at {self.seconds:g} s" if self.frames else f"picture {shown}"

    def sample(self) -> Sample:
        sizes = self.sizes * max(self.frames, 1)
        images = [noise(*size, seed) for seed, size in enumerate(sizes)]
        return replace(Sample.of(images, QUESTION, video=self.frames > 0), seconds=self.seconds)


def noise(width: int, height: int, seed: int) -> Image.Image:
    """Without extremes: what a filter overshoots is cut off at 0 and 255 twice, once for rows and once for columns, and
    Pillow takes the other of them first where that is faster."""
    return Image.fromarray(np.random.default_rng(seed).integers(64, 192, (height, width, 3), dtype=np.uint8))


def cases() -> tuple[Case, ...]:
    clips = (Case((size,), *pace) for size, pace in zip(SIZES, cycle(PACES)))
    extremes = (Case(((4, 1000),)), Case(((64, 64),), 1))
    return (*(Case((size,)) for size in SIZES), *map(Case, SEVERAL), *clips, *extremes)


def runs(values: Tensor) -> str:
    """Whole numbers, with those that follow each other and are the same written once."""
    lengths = ((value, len(list(same))) for value, same in groupby(values.flatten().tolist()))
    return " ".join(f"{value}*{length}" if length > 1 else str(value) for value, length in lengths)


def summary(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Model inputs, compactly: whole numbers in full, of others a few values, their mean and their spread."""
    found = {}
    for name, given in sorted(inputs.items()):
        value = torch.as_tensor(given)
        found[name] = {"shape": list(value.shape)}
        if not value.is_floating_point():
            found[name]["runs"] = runs(value)
            continue
        value = value.double().flatten()
        at = torch.linspace(0, len(value) - 1, min(SHOWN, len(value))).round().long()
        moments = {"mean": value.mean().item(), "spread": value.std(correction=0).item()}
        found[name] |= {key: round(moment, 5) for key, moment in moments.items()}
        found[name]["values"] = [round(one, 4) for one in value[at].tolist()]
    return found


def golden_file(family: str) -> Path:
    """What the stock processors made of the cases."""
    return GOLDEN / f"{family}.json"


def tokenizer_file(family: str) -> Path:
    """The real tokenizer of a family, cut down to the words of the cases."""
    return GOLDEN / "tokenizers" / f"{family}.json"


def differences(golden: Mapping[str, Any], other: Mapping[str, Any], pixels: float) -> Iterator[str]:
    """What two files of summaries do not share; values, means and spreads of pixels may be so far apart."""
    for name in sorted({*golden, *other}):
        one, two = golden.get(name), other.get(name)
        if one is None or two is None:
            if one is not two or name not in golden or name not in other:
                yield f"{name} is refused, or left out, in one of both"
            continue
        for part in sorted({*one, *two}):
            if not _alike(one.get(part), two.get(part), pixels):
                yield f"{name}: {part} differs"


def _alike(one: dict[str, Any] | None, two: dict[str, Any] | None, pixels: float) -> bool:
    if one is None or two is None or one["shape"] != two["shape"] or one.get("runs") != two.get("runs"):
        return False
    if "runs" in one:
        return True
    numbers = [[each["mean"], each["spread"], *each["values"]] for each in (one, two)]
    return bool(np.allclose(*numbers, rtol=0, atol=pixels))
