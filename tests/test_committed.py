"""What is committed with the weights comes from *these* weights, and can be had again."""

from __future__ import annotations

import json

import pytest
from scipy.stats import binom

from corelib.core import model_folder
from corelib.experiments.evidence import measure_accuracy
from corelib.models.load import load
from corelib.tasks import DOMAINS, task
from corelib.training.card import TEST_SEED, read_card
from corelib.training.card_page import render
from corelib.training.recipe import Recipe

NAMES = model_folder.bundled_names()


def test_the_embedded_model_is_there():
    assert "mini-s" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_result_names_these_weights(name):
    folder = model_folder.bundled_folder(name)
    digest = model_folder.verify(folder)
    results = [path for path in folder.rglob("*.json") if path.name not in ("config.json", model_folder.CHECKSUM)]
    results = [path for path in results if "schema" in json.loads(path.read_text())]
    formed = {"formation.json"} if not Recipe.load(folder / "recipe.toml").begins_with else set()
    assert {"card.json", *formed} == {path.name for path in results}
    for path in results:
        model = json.loads(path.read_text())["model"]
        assert model["sha256"] == digest, f"{path} comes from other weights: compute it again"


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_its_numbers_say(name):
    folder = model_folder.bundled_folder(name)
    card = read_card(folder)
    assert (folder / "README.md").read_text(encoding="utf-8") == render(card)
    told = {**card["recipe"], "study": card.get("study", {})}  # what the book does with it stands by itself
    assert Recipe(**told) == Recipe.load(folder / "recipe.toml")


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_cards_accuracy_can_be_had_again(domain):
    said = read_card(model_folder.bundled_folder("mini-s"))["test"]["results"][domain]["base"]["accuracy"]
    found = measure_accuracy(load("mini-s"), task(domain).draw("test", samples=64, seed=TEST_SEED))
    right = round(found.accuracy * 64)
    assert binom.cdf(right, 64, said) > 1e-4, (said, found)
    assert binom.sf(right - 1, 64, said) > 1e-4, (said, found)
