"""The frames of a clip, prepared as the checkpoint's video processor would, which needs torchvision.

Its settings are handed to the image processor of the family: the same resizing and the same normalisation, without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from corelib.core.errors import BadInput

NOT_FOLLOWED = ("do_center_crop", "cap_pixels_per_frame")  # settings of video processors


def frame_processor(processor: type[Any], settings: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> Any:
    """An image processor with the settings of a video processor, and with `defaults` where these are silent.

    Raises: BadInput if no settings are known, or if there is one that is not followed here.
    """
    if settings is None:
        raise BadInput(
            "nothing is known of the video processor, which says how large frames become: load a checkpoint with "
            "its settings (video_preprocessor_config.json), wrap a processor that has one, or give pictures"
        )
    if strange := [name for name in NOT_FOLLOWED if settings.get(name)]:
        raise BadInput(f"the video processor sets {strange[0]}, which corelib does not follow: set it to false")
    known = processor.valid_kwargs.__annotations__
    given = {name: value for name, value in settings.items() if name in known and value is not None}
    return processor(**{**defaults, **given})


def frames_of(images: Sequence[Image.Image]) -> list[Image.Image]:
    """The frames of one clip, in RGB.

    Raises: BadInput if they differ in size.
    """
    if len({image.size for image in images}) != 1:
        raise BadInput("the frames of a clip must have one size: resize them, or give them as pictures")
    return [image.convert("RGB") for image in images]
