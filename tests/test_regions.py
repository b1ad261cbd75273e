"""Boxes and masks become tokens by defined rules: half-open borders, partial patches, clipping, refusal."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corelib.core.errors import BadInput, BadRegion
from corelib.core.geometry import Box
from corelib.families.regions import Grid, box_of_token, coverage, coverage_of_mask, tokens_of_box, tokens_of_mask

PLAIN = Grid(rows=3, columns=4, width=128, height=96)  # tokens of 32 pixels, nothing resized


@pytest.mark.parametrize(
    ("box", "tokens"),
    [
        (Box(0, 0, 32, 32), [0]),  # ends exactly on a border: does not enter the next token
        (Box(0, 0, 33, 32), [0, 1]),
        (Box(32, 32, 64, 64), [5]),  # starts exactly on a border
        (Box(31.5, 0, 32.5, 1), [0, 1]),
        (Box(40, 40, 41, 41), [5]),  # one pixel
        (Box(100, 80, 500, 500), [11]),  # partly outside: clipped
        (Box(-50, -50, 1, 1), [0]),
        (Box(-9, -9, 900, 900), list(range(12))),
        (Box(30, 30, 66, 66), [0, 1, 2, 4, 5, 6, 8, 9, 10]),
    ],
)
def test_tokens_of_a_box(box, tokens):
    assert tokens_of_box(PLAIN, box).tolist() == tokens


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(5, 5, 5, 9), "no area"),
        (Box(9, 9, 5, 5), "no area"),
        (Box(float("nan"), 0, 5, 5), "no area"),
        (Box(128, 0, 200, 9), "outside"),  # touches the border only
        (Box(-9, 0, 0, 9), "outside"),
        (Box(0, 96, 9, 99), "outside"),
    ],
)
def test_regions_that_select_nothing_are_refused(box, reason):
    with pytest.raises(BadRegion, match=reason):
        tokens_of_box(PLAIN, box)


def test_threshold_is_a_share_that_must_be_exceeded():
    box = Box(16, 0, 64, 32)
    assert coverage(PLAIN, box)[:3].tolist() == [0.5, 1.0, 0.0]
    assert tokens_of_box(PLAIN, box, threshold=0.49).tolist() == [0, 1]
    assert tokens_of_box(PLAIN, box, threshold=0.5).tolist() == [1]
    with pytest.raises(BadRegion, match=r"most: 0\.001.*lower"):
        tokens_of_box(PLAIN, Box(0, 0, 1, 1), threshold=0.5)
    with pytest.raises(BadInput, match="threshold"):
        tokens_of_box(PLAIN, box, threshold=1.0)


def test_resized_image():
    """300 × 100 pixels on 3 × 4 tokens of 28: a token is 75 × 33.3 original pixels."""
    grid = Grid(rows=3, columns=4, width=300, height=100, patch=14, merge=2)
    assert tokens_of_box(grid, Box(75, 0, 150, 33.3)).tolist() == [1]
    assert tokens_of_box(grid, Box(74, 0, 150, 34)).tolist() == [0, 1, 4, 5]


def test_padded_image_and_tile():
    padded = Grid(rows=2, columns=2, width=64, height=32, patch=16, merge=2, resized=(64, 32), shift=(0, 16))
    assert coverage(padded, Box(0, 0, 64, 32)).tolist() == [0.5] * 4
    assert box_of_token(padded, 0) == Box(0, 0, 32, 16)
    right = Grid(rows=1, columns=1, width=128, height=64, patch=16, merge=2, resized=(64, 32), shift=(-32, 0))
    assert coverage(right, Box(64, 0, 128, 64)).tolist() == [1.0]
    assert coverage(right, Box(0, 0, 64, 64)).tolist() == [0.0]  # inside the image, on the other tile
    assert box_of_token(right, 0) == Box(64, 0, 128, 64)


def test_clip():
    """Four frames, two to a slice: a box on frame 2 is in the second slice."""
    clip = Grid(rows=1, columns=2, width=64, height=32, time=2, frames=2)
    assert tokens_of_box(clip, Box(0, 0, 10, 10, image=1)).tolist() == [0]
    assert tokens_of_box(clip, Box(40, 0, 50, 10, image=2)).tolist() == [3]
    assert box_of_token(clip, 3) == Box(32, 0, 64, 32, image=2)
    with pytest.raises(BadRegion, match="frame 4"):
        tokens_of_box(clip, Box(0, 0, 10, 10, image=4))
    mask = torch.zeros(32, 64, dtype=torch.bool)
    mask[:, 40:] = True
    assert tokens_of_mask(clip, mask, image=3).tolist() == [3]


def test_the_image_number_of_a_still_is_ignored():
    assert tokens_of_box(PLAIN, Box(0, 0, 9, 9, image=7)).tolist() == [0]  # the caller picked this image's grid


def test_masks():
    mask = torch.zeros(96, 128, dtype=torch.bool)
    with pytest.raises(BadRegion, match="no pixel"):
        tokens_of_mask(PLAIN, mask)
    with pytest.raises(BadRegion, match=r"\[128, 96\]"):
        tokens_of_mask(PLAIN, mask.T)
    mask[0:16, 0:32] = mask[95, 127] = True
    assert coverage_of_mask(PLAIN, mask)[[0, 11]].tolist() == [0.5, 1 / 1024]
    assert tokens_of_mask(PLAIN, mask).tolist() == [0, 11]
    assert tokens_of_mask(PLAIN, mask, threshold=0.25).tolist() == [0]


@settings(deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 40),
    st.integers(1, 40),
    st.data(),
)
def test_a_box_of_whole_pixels_is_its_mask(rows, columns, width, height, data):
    """At any grid and any scale; and the covered areas add up to the box."""
    grid = Grid(rows=rows, columns=columns, width=width, height=height, patch=3, merge=2)
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    shares = coverage(grid, Box(x0, y0, x1, y1))
    torch.testing.assert_close(shares, coverage_of_mask(grid, mask))
    assert shares.min() >= 0
    assert shares.max() <= 1 + 1e-9
    token_area = width * height / grid.tokens
    assert float(shares.sum()) * token_area == pytest.approx((x1 - x0) * (y1 - y0))


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.floats(1, 999), st.floats(1, 999), st.data())
def test_a_token_is_the_only_token_of_its_box(rows, columns, time, width, height, data):
    grid = Grid(rows=rows, columns=columns, width=width, height=height, time=time)
    index = data.draw(st.integers(0, grid.tokens - 1))
    assert tokens_of_box(grid, box_of_token(grid, index)).tolist() == [index]


def test_impossible_grids():
    with pytest.raises(BadInput, match="not positive"):
        Grid(rows=0, columns=1, width=1, height=1)
    with pytest.raises(BadRegion, match="token 12"):
        box_of_token(PLAIN, 12)
