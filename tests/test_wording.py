"""What the bridge's tower states, in the language model's words."""

from __future__ import annotations

import pytest
import torch

from corelib.training.connector_init import LOUD, translation, wording
from corelib.training.tower_supervision import FACTS, PLACE, directions, state_facts

WIDTH = 576
COMMON = torch.randn(WIDTH, generator=torch.Generator().manual_seed(99))


def embed(word: str) -> torch.Tensor:
    """Words that have much in common, as those of a language model do."""
    own = torch.Generator().manual_seed(sum(ord(letter) * 31**k for k, letter in enumerate(word)) % 2**31)
    return 3 * COMMON + torch.randn(WIDTH, generator=own)


def test_what_is_here_is_said_in_the_word_itself():
    said = wording(embed)
    torch.testing.assert_close(said.norm(dim=1), torch.ones(len(FACTS)))
    colours = [fact for fact in FACTS if fact.startswith("on ")][:6]
    middle = torch.stack([embed(" " + fact.split()[1]) for fact in colours]).mean(0)
    for fact in colours:
        word = embed(" " + fact.split()[1]) - middle
        assert torch.cosine_similarity(said[PLACE[fact]], word, dim=0) > 0.99
    here, beside = (said[PLACE[fact]] for fact in ("on red", "left red"))
    assert 0.2 < torch.cosine_similarity(here, beside, dim=0) < 0.7  # half the word, and something of its own
    first, second = (said[PLACE[fact]] for fact in ("digit 0: 7", "digit 1: 7"))
    assert 0.2 < torch.cosine_similarity(first, second, dim=0) < 0.7


def test_what_a_token_denies_adds_nothing():
    holds = torch.zeros(len(FACTS), dtype=torch.bool)
    holds[[PLACE["on red"], PLACE["on star"], PLACE["digit 0: 7"]]] = True
    stated = torch.where(holds, 1.7, -0.6) @ directions(WIDTH)[: len(FACTS)]
    expected = LOUD * 2.3 * wording(embed)[holds].sum(0)
    torch.testing.assert_close(translation(embed) @ stated, expected, atol=2e-2 * expected.norm().item(), rtol=0)


def test_loud_tokens_cost_more():
    tokens = torch.tensor([[3.0, 4.0] + [0.0] * (WIDTH - 2), [0.0] * WIDTH])
    holds = torch.zeros(2, len(FACTS), dtype=torch.bool)
    plain, _ = state_facts([tokens], holds)
    quiet, _ = state_facts([tokens], holds, quiet=0.1)
    assert (quiet - plain).item() == pytest.approx(0.1 * 25 / 2)
