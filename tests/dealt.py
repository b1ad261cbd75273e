"""Files of pictures that a folder deals to a split of one's choice: where one goes, its bytes decide."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from corelib.tasks.folder_record import digest
from corelib.tasks.items import DEALT, split_of


def save_in(split: str, image: Image.Image, path: Path, below: str = "") -> str:
    """Write a PNG file with a remark in it, the first with which it goes to this split (and has a digest below that of
    another). Gives its digest."""
    assert split in DEALT
    for number in range(999):
        remark = PngInfo()
        remark.add_text("remark", str(number))
        image.save(path, pnginfo=remark)
        told = digest(path)
        if split_of([(told,)]) == split and (not below or told < below):
            return told
    raise AssertionError(f"no remark brings {path} to {split}")
