"""RAM by hand, and the properties that make it a measure."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corelib.core.errors import BadInput, BadRegion, UnknownName
from corelib.metrics import (
    VARIANTS,
    Regions,
    chance,
    contrast,
    lift,
    mass,
    null_calibrated,
    ram,
    reduce_rows,
    value_weighted,
    variant,
    visible_keys,
    visual_share,
)

# One sample, two heads, one row, five keys: bos, three visual tokens, one word.
ATTENTION = torch.tensor([[[[0.1, 0.2, 0.3, 0.3, 0.1]], [[0.9, 0.0, 0.0, 0.0, 0.1]]]])
VISUAL = torch.tensor([[False, True, True, True, False]])
EVIDENCE = torch.tensor([[False, True, True, False, False]])


def test_by_hand():
    close = torch.testing.assert_close
    close(ram(ATTENTION, EVIDENCE), torch.tensor([[[0.5], [0.0]]]))
    close(mass(ATTENTION, VISUAL), torch.tensor([[[0.8], [0.0]]]))
    close(visual_share(ATTENTION, EVIDENCE, VISUAL), torch.tensor([[[0.625], [0.0]]]))  # nothing to divide by: 0
    close(lift(ATTENTION, EVIDENCE, VISUAL), torch.tensor([[[0.625 / (2 / 3)], [0.0]]]))
    rivals = torch.tensor([[[False, False, False, True, False], [True, False, False, False, False], [False] * 5]])
    close(contrast(ATTENTION, EVIDENCE, rivals), torch.tensor([[[0.5 - 0.3], [0.0 - 0.9]]]))
    close(null_calibrated(torch.tensor([[[0.5]]]), torch.tensor([[[0.2]]])), torch.tensor([[[0.3]]]))


def test_chance_counts_the_keys_a_row_may_see():
    visible = visible_keys(torch.tensor([[0, 1, 1, 1, 1]]), torch.tensor([[3, 4]]))
    assert visible.tolist() == [[[False, True, True, True, False], [False, True, True, True, True]]]
    torch.testing.assert_close(chance(EVIDENCE, visible), torch.tensor([[2 / 3, 2 / 4]]))


def writes(w_o: torch.Tensor):
    """What heads write through a matrix as torch stores it, [width, head · dim]."""

    def write(z: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bhrd,whd->bhrw", z, w_o.unflatten(1, z.shape[1::2]))

    return write


def test_value_weighted_by_hand():
    """Two query heads on one value head; W_O passes head 0 on and doubles head 1, which cancels in the norm ratio."""
    attention = torch.tensor([[[[0.5, 0.5]], [[0.25, 0.75]]]])
    values = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]])
    w_o = torch.cat([torch.eye(2), 2 * torch.eye(2)], dim=1)  # [hidden, head·dim]
    evidence = torch.tensor([[True, False]])
    expected = torch.tensor([[[1.5 / 2.5], [0.75 / (0.75**2 + 3.0**2) ** 0.5]]])
    torch.testing.assert_close(value_weighted(attention, values, writes(w_o), evidence), expected)


def test_value_weighted_sees_what_attention_does_not():
    """A value of zero is looked at and says nothing; a direction that W_O drops is written nowhere."""
    attention = torch.tensor([[[[0.9, 0.1]]]])
    evidence = torch.tensor([[True, False]])
    values = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])
    assert value_weighted(attention, values, writes(torch.eye(2)), evidence).item() == 0
    values = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    dropping = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    assert value_weighted(attention, values, writes(dropping), evidence).item() == 0


def test_value_weighted_groups_heads_as_the_model_does():
    make = torch.Generator().manual_seed(0)
    attention = torch.rand(2, 6, 3, 5, generator=make)
    values, w_o = torch.rand(2, 2, 5, 4, generator=make), torch.rand(7, 24, generator=make)
    evidence = torch.tensor([[True, True, False, False, False]] * 2)
    scores = value_weighted(attention, values, writes(w_o), evidence)
    head, kv_head = 4, 1
    written = (attention[1, head, 2, :, None] * values[1, kv_head]) @ w_o[:, head * 4 : (head + 1) * 4].T
    expected = written[:2].sum(0).norm() / written.sum(0).norm()
    torch.testing.assert_close(scores[1, head, 2], expected)


def test_reductions_leave_padding_out():
    scores = torch.tensor([[[-0.2, -0.4, 0.9]], [[0.1, 0.5, 0.3]]])
    rows = torch.tensor([[True, True, False], [True, True, True]])
    torch.testing.assert_close(reduce_rows(scores, rows), torch.tensor([[-0.3], [0.3]]))
    torch.testing.assert_close(reduce_rows(scores, rows, "max"), torch.tensor([[-0.2], [0.5]]))
    with pytest.raises(UnknownName, match="mean, max"):
        reduce_rows(scores, rows, "median")
    with pytest.raises(BadInput, match="no row"):
        reduce_rows(scores, rows & False)


def test_variants_have_names():
    regions = Regions(EVIDENCE, VISUAL, EVIDENCE[:, None])
    assert list(VARIANTS) == ["raw", "visual_share", "lift", "contrast"]
    for name in VARIANTS:
        assert variant(name)(ATTENTION, regions).shape == (1, 2, 1)
    torch.testing.assert_close(variant("raw")(ATTENTION, regions), ram(ATTENTION, EVIDENCE))
    torch.testing.assert_close(variant("lift")(ATTENTION, regions), lift(ATTENTION, EVIDENCE, VISUAL))
    assert variant("contrast")(ATTENTION, regions).abs().max() == 0
    with pytest.raises(UnknownName, match="did you mean 'lift'"):
        variant("lfit")
    with pytest.raises(BadInput, match="distractor"):
        variant("contrast")(ATTENTION, Regions(EVIDENCE, VISUAL))


def test_wrong_regions_are_refused():
    with pytest.raises(BadRegion, match="no evidence"):
        ram(ATTENTION, EVIDENCE & False)
    with pytest.raises(BadRegion, match="not visual"):
        visual_share(ATTENTION, ~VISUAL, VISUAL)
    with pytest.raises(BadInput, match="at least one distractor"):
        contrast(ATTENTION, EVIDENCE, torch.zeros(1, 0, 5, dtype=torch.bool))
    with pytest.raises(BadInput, match="same samples"):
        null_calibrated(torch.zeros(1, 1, 1), torch.zeros(1, 1, 2))


@st.composite
def recorded(draw):
    """Random causal-looking attention with keys that some heads ignore, and evidence among the visual tokens."""
    batch, heads, rows = (draw(st.integers(1, 4)) for _ in range(3))
    keys = draw(st.integers(2, 9))
    make = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    attention = (torch.randn(batch, heads, rows, keys, generator=make) * draw(st.floats(0, 20))).softmax(-1)
    visual = torch.rand(batch, keys, generator=make) < 0.7
    evidence = visual & (torch.rand(batch, keys, generator=make) < 0.5)
    visual[:, 0] = evidence[:, 0] = True
    visual[:, 1], evidence[:, 1] = True, False  # so that there is a complement
    return attention, evidence, visual


@settings(deadline=None)
@given(recorded())
def test_raw_and_visual_share_are_shares(case):
    attention, evidence, visual = case
    for scores in (ram(attention, evidence), visual_share(attention, evidence, visual)):
        assert scores.min() >= 0
        assert scores.max() <= 1 + 1e-5
    both = ram(attention, evidence) + ram(attention, ~evidence)
    torch.testing.assert_close(both, torch.ones_like(both))
    seen = mass(attention, visual) > 1e-6
    shares = visual_share(attention, evidence, visual) + visual_share(attention, visual & ~evidence, visual)
    torch.testing.assert_close(shares[seen], torch.ones_like(shares)[seen], atol=1e-4, rtol=0)


@settings(deadline=None)
@given(recorded())
def test_uniform_attention_has_lift_1_and_raw_at_chance(case):
    attention, evidence, visual = case
    uniform = torch.full_like(attention, 1 / attention.shape[-1])
    scores = lift(uniform, evidence, visual)
    torch.testing.assert_close(scores, torch.ones_like(scores))
    visible = torch.ones(attention.shape[0], *attention.shape[2:], dtype=torch.bool)
    torch.testing.assert_close(ram(uniform, evidence), chance(evidence, visible)[:, None].expand_as(scores))


@settings(deadline=None)
@given(recorded(), st.randoms(use_true_random=False))
def test_permuting_heads_permutes_scores(case, random):
    attention, evidence, visual = case
    order = list(range(attention.shape[1]))
    random.shuffle(order)
    regions = Regions(evidence, visual, (visual & ~evidence)[:, None])
    for score in VARIANTS.values():
        torch.testing.assert_close(score(attention[:, order], regions), score(attention, regions)[:, order])


@settings(deadline=None)
@given(recorded())
def test_layers_may_stand_where_the_batch_does(case):
    """One sample, several layers: masks without a first axis."""
    attention, evidence, visual = case
    torch.testing.assert_close(
        lift(attention, evidence[0], visual[0]),
        torch.stack([lift(layer, evidence[0], visual[0]) for layer in attention]),
    )
