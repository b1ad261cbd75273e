"""Meet the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from corelib.analysis.stats import wilson
from corelib.core.geometry import Box
from corelib.exercises.verdict import Verdict, compare, not_yet, right
from corelib.experiments.evidence import best_constant, measure_accuracy
from corelib.models.vlm import VLM
from corelib.tasks import task

PAGES = 24


def check_swap(swap_values: Callable[[Image.Image, Box, Box], Image.Image], vlm: VLM) -> Verdict:
    """Exercise 0.1: do two values change places on a page, and does the answer follow?"""
    followed = moved = 0
    for index in range(PAGES):
        picture, _ = task("documents", pages=1).draw_picture("validate", seed=11, index=index)
        one, other = picture.questions[1], picture.questions[5]
        before = picture.images[0]
        first, second = (Box(112, 32 * line, 192, 32 * line + 32) for line in (1, 5))  # right half
        page = swap_values(before, first, second)
        moved += all(
            page.crop((112, here, 192, here + 32)).tobytes() == before.crop((112, there, 192, there + 32)).tobytes()
            for here, there in ((32, 160), (160, 32))
        )
        followed += vlm.ask([page], one.text) == other.answer
    if moved < PAGES:
        return not_yet(f"on {PAGES - moved} of {PAGES} pages the pixels did not change places")
    return right(f"the pixels changed places on every page; the answer followed on {followed} of {PAGES}")


def check_objects(measured: object, vlm: VLM) -> Verdict:
    """Exercise 0.2: accuracy by the number of objects, 64 samples of `validate`, seed 3."""
    found: dict[str, dict[object, float]] = {}
    for split in ("validate", "test"):
        draws = {count: task("scenes", objects=count).draw(split, samples=64, seed=3) for count in (4, 12, 24)}
        found[split] = {count: measure_accuracy(vlm, draw).accuracy for count, draw in draws.items()}
    usual = measure_accuracy(vlm, task("scenes").draw("validate", samples=64, seed=3)).accuracy
    mistakes = {
        "these are of the split test": found["test"],
        "the number of objects never changed": dict.fromkeys(found["test"], usual),
    }
    return compare(measured, found["validate"], 1e-3, mistakes)


def check_constant(constant_accuracy: Callable[[Sequence[str]], float]) -> Verdict:
    """Exercise 0.3: the accuracy of the best constant answer."""
    for answers in (["7", "2", "7", "1"], ["3"] * 4 + ["5"] * 6, list("0123456789")):
        given = constant_accuracy(answers)
        if abs(given - best_constant(answers).accuracy) > 1e-6:
            if abs(given - 1 / len(set(answers))) < 1e-6:
                return not_yet("one in the number of different answers: that is a guess, not the best constant answer")
            return not_yet(f"of {answers} it is not {given}")
    return right()


def check_wilson(wilson_by_hand: Callable[[int, int], tuple[float, float]]) -> Verdict:
    """Exercise 0.4: Wilson's interval."""
    for successes, count in ((62, 64), (8, 10), (0, 20)):
        low, high = wilson_by_hand(successes, count)
        if max(abs(low - wilson(successes, count)[0]), abs(high - wilson(successes, count)[1])) > 1e-3:
            share = successes / count
            wide = 1.96 * (share * (1 - share) / count) ** 0.5
            if abs(low - (share - wide)) < 1e-3:
                return not_yet(
                    "this is the share plus and minus 1.96 standard errors, which leaves the range of a share"
                )
            return not_yet(f"of {successes} right among {count} it is not ({low:.3f}, {high:.3f})")
    return right()


def check_tokens(visual_tokens: Callable[[int, int, int], int], vlm: VLM) -> Verdict:
    """Exercise 0.5: how many visual tokens do pictures of a size make?"""
    examples: Mapping[str, tuple[int, int, int]] = {
        "scenes": (192, 192, 1),
        "documents": (192, 256, 2),
        "video": (96, 96, 6),
    }
    for domain, (width, height, count) in examples.items():
        sample = task(domain).sample("validate", seed=0, index=0)
        assert [image.size for image in sample.images] == [(width, height)] * count
        expected = int(vlm.encode([sample]).visual.sum())
        given = visual_tokens(width, height, count)
        if given == expected:
            continue
        if count > 1 and given * count == expected:
            return not_yet("this is one picture of several")
        return not_yet(f"{count} pictures of {width} × {height} pixels make another number of tokens than {given}")
    return right()
