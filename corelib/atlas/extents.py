"""How much of each model is measured."""

from __future__ import annotations

from dataclasses import dataclass

from corelib.models.vlm import VLM
from corelib.tasks import DOMAINS

REDIRECTED = {  # questions of which at least 512 should have a rival and be answered rightly
    "scenes": 768,  # of whose questions four in five have a rival
    "documents": 544,  # nearly all have
    "video": 768,
}
COMPARED = 256  # questions on which ways to read RAM are compared


@dataclass(frozen=True)
class Extent:
    """How much of a model is measured: the larger it is, the less of it there is time for."""

    samples: int  # of the primary analysis,
    draws: int  # and its layer-matched sets
    elsewhere: tuple[int, int]  # the same, where heads are removed in another task
    traced: int  # samples of the paths
    few: int  # samples of other ways to remove heads, and of the effects of all heads
    window: int  # keys that heads see which are not dense
    hybrid: tuple[int, int]  # samples with few heads dense, and draws of other heads
    redirected_elsewhere: tuple[int, int] = (512, 100)  # questions whose gaze is moved in another task or of one kind
    transferred: int = 256  # samples on which the heads of all tasks are tested in one
    controls: tuple[str, ...] = DOMAINS  # the domains that have every control; others: matched and random sets alone
    of_documents: int | None = None  # samples of the primary analysis there, where prompts are longest
    batch_size: int = 64
    half: bool = False  # computes in bfloat16


EXTENTS = {  # by the most layers a model may have
    6: Extent(samples=512, draws=200, elsewhere=(512, 200), traced=512, few=256, window=8, hybrid=(512, 10)),
    11: Extent(
        samples=256,
        draws=100,
        elsewhere=(256, 100),
        traced=512,
        few=128,
        window=8,
        hybrid=(256, 5),
        redirected_elsewhere=(256, 100),
        controls=(),
    ),
    999: Extent(
        samples=256,
        draws=100,
        elsewhere=(256, 100),
        traced=64,
        few=64,
        window=16,
        hybrid=(96, 3),
        redirected_elsewhere=(256, 20),
        transferred=128,
        controls=("scenes",),
        of_documents=128,
        batch_size=16,
        half=True,
    ),
}


def extent(vlm: VLM) -> Extent:
    """How much of this model is measured."""
    return next(one for most, one in EXTENTS.items() if vlm.num_layers <= most)
