"""What is committed with the weights comes from *these* weights, and can be had again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom, spearmanr

from corelib import embedded
from corelib.bridge import language
from corelib.experiments.profiling import profile
from corelib.experiments.validity import accuracy
from corelib.heads import HeadScores
from corelib.tasks import DOMAINS, task
from corelib.training.card import TEST_SEED, read_card
from corelib.training.card_page import render
from corelib.training.recipe import Recipe
from corelib.vlm import LANGUAGE, load

NAMES = embedded.names()


def test_the_embedded_model_is_there():
    assert "mini-s" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_result_names_these_weights(name):
    folder = embedded.home(name)
    digest = embedded.verify(folder)
    results = [path for path in folder.rglob("*.json") if path.name not in ("config.json", embedded.CHECKSUM)]
    results = [path for path in results if "schema" in json.loads(path.read_text())]
    assert {"card.json", *(f"{domain}.json" for domain in DOMAINS)} <= {path.name for path in results}
    for path in results:
        model = json.loads(path.read_text())["model"]
        expected = digest
        if model["name"] == LANGUAGE:  # before it learned to see
            if not language.is_installed():
                continue
            expected = language.checksum(language.locate())
        assert model["sha256"] == expected, f"{path} comes from other weights: compute it again"


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_its_numbers_say(name):
    folder = embedded.home(name)
    card = read_card(folder)
    assert (folder / "README.md").read_text(encoding="utf-8") == render(card)
    assert card["recipe"] == Recipe.load(folder / "recipe.toml").as_dict()


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_cards_accuracy_can_be_had_again(domain):
    said = read_card(embedded.home("mini-s"))["test"]["results"][domain]["base"]["accuracy"]
    found = accuracy(load("mini-s"), task(domain), split="test", seed=TEST_SEED, samples=64)
    right = round(found["accuracy"] * 64)
    assert binom.cdf(right, 64, said) > 1e-4, (said, found)
    assert binom.sf(right - 1, 64, said) > 1e-4, (said, found)


def test_committed_head_scores_can_be_had_again(vlm):
    committed = HeadScores.load(embedded.home("mini-s") / "scores" / "scenes.json")
    assert committed.task["samples"] == 256 and committed.task["split"] == "select"
    found = profile(vlm, task("scenes"), samples=64)
    assert spearmanr(np.ravel(found.scores), np.ravel(committed.scores)).statistic > 0.8
    widest = 0.0
    for layer in range(vlm.layers):
        for head in range(vlm.heads):
            low, high = (committed.interval[end][layer][head] for end in ("low", "high"))
            reach = 2.5 * (high - low) + 0.01  # 64 samples of 256: twice the spread, and then some for long tails
            difference = abs(found.scores[layer][head] - committed.scores[layer][head])
            assert difference < reach, (layer, head)
            widest = max(widest, difference)
    assert widest > 0  # a subset that agreed to the last digit would be the same file read twice
