"""One thread a test process: the suite runs on two cores, and small models gain nothing from more."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def vlm():
    """The embedded model."""
    from corelib.models.vlm import load

    return load("mini-s")
