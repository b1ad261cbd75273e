"""What the head explorer shows: of files of head scores, and of the models of the book.

    domains = domains_of_files(scores_by_task([Path("scores.json")]))
    model, domains = domains_of_book("bridge", examples)
    page = explorer_page(model, domains)

The first is what `corelib explore` shows, the second what `tools/explorer_pages.py` writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from corelib.atlas import library
from corelib.atlas.by_sample import of_kind, samples_beside
from corelib.atlas.cell import Cell
from corelib.core.errors import BadInput, check_known
from corelib.core.head_scores import HeadScores, ordered
from corelib.core.model_folder import Study, bundled_folder
from corelib.core.results import read_json
from corelib.core.values import ModelFacts
from corelib.experiments.head_effects import HeadEffects
from corelib.experiments.head_story_result import HeadStory
from corelib.models.attention_by_word import AttentionByWord, attention_by_word
from corelib.models.vlm import VLM
from corelib.plots.explorer import Domain, Measure, Told
from corelib.tasks import DOMAINS, Task

EFFECTS = "validate"  # the split of the effects that chapter 7 shows
CALLED = {  # what chapter 7 calls the heads of which it tells
    "Tells the CoRe heads what to look for": ("bridge L16H2", "bridge L19H1", "mini-s L0H4", "mini-s L0H7"),
    "Keeps track of what was said": ("bridge L24H4", "bridge L23H3"),
    "A CoRe head that the mean hides": ("mini-s L3H1",),
}

Found = dict[str, list[tuple[Path, HeadScores]]]
Examples = Mapping[str, Sequence[AttentionByWord]]  # by the name of the domain
NONE: Examples = {}


def _scores_in(path: Path) -> list[HeadScores]:
    """The head scores in a file: those of `corelib score`, or all metrics of an atlas cell."""
    schema = str(read_json(path).get("schema"))
    check_known(f"kind of file in {path}", schema, (HeadScores.schema, Cell.schema))
    if schema == HeadScores.schema:
        return [HeadScores.load(path)]
    cell = Cell.load(path)
    return [cell.scores(metric) for metric in cell.metrics]


def scores_by_task(paths: Iterable[Path]) -> Found:
    """The scores in files of one model, with their files, by task. Where two are of one metric and task, their files
    tell them apart.

    Raises: BadInput if there is no file, or if two are of different models; BadResults or UnknownName for a file
        without head scores.
    """
    every = [(path, scores) for path in dict.fromkeys(paths) for scores in _scores_in(path)]
    if not every:
        raise BadInput("no file of head scores: give one or more")
    first, model = every[0][0], every[0][1].model
    for path, scores in every:
        if (scores.model.sha256, scores.shape) != (model.sha256, every[0][1].shape):
            raise BadInput(
                f"{path} is of {scores.model.name} ({scores.model.sha256[:8]}), {first} of {model.name} "
                f"({model.sha256[:8]}): head L3H2 of one is another head in the other, so give files of one model"
            )
    same = Counter((scores.task.domain, scores.metric.key) for _, scores in every)
    unclear = {domain for (domain, _), count in same.items() if count > 1}
    found: Found = {}
    for path, scores in every:
        name = str(path) if scores.task.domain in unclear else scores.task.domain
        found.setdefault(name, []).append((path, scores))
    return found


def domains_of_files(found: Found, examples: Examples = NONE) -> list[Domain]:
    """These scores as the page shows them; with the scores of samples where a file beside has them.

    Raises: BadResults if such a file is damaged.
    """
    return [
        Domain(name, [Measure.of(one, samples_beside(path, one)) for path, one in mine], examples.get(name, ()))
        for name, mine in found.items()
    ]


def domains_of_book(model: str, examples: Examples = NONE) -> tuple[ModelFacts, list[Domain]]:
    """A bundled model, and all that the atlas knows of its heads in every domain: scores, effects and stories.

    Raises: UnknownName if the atlas has no such model.

    >>> model, domains = domains_of_book("mini-s")
    >>> [one.name for one in domains], domains[0].measures[0].name
    (['scenes', 'documents', 'video'], 'RAM')
    """
    told = {name: library.story(model, name) for name in library.results("stories", model)}
    study = Study.of(bundled_folder(model))
    found = []
    for domain in DOMAINS:
        effects = library.effects(model, f"{domain}-{EFFECTS}")
        found.append(
            Domain(
                domain,
                [*_of_cell(model, domain, study.kind.get(domain)), *_of_effects(effects)],
                examples.get(domain, ()),
                {head: tell(one) for name, one in told.items() if name.startswith(f"{domain}-") for head in one.head},
            )
        )
    return library.cell(model, DOMAINS[0]).model, found


def _of_cell(model: str, domain: str, kind: str | None) -> list[Measure]:
    """All metrics of a cell, RAM first: on the one `kind` of question that heads are ranked on, if it is named."""
    cell, path = library.cell(model, domain), library.CELLS / model / f"{domain}.json"
    measures = [Measure.of(one, samples_beside(path, one)) for one in map(cell.scores, cell.metrics)]
    measures.sort(key=lambda one: one.name != "RAM")
    if kind is None:
        return measures
    scores, every = cell.of_kind(kind), measures[0].by_sample
    asked = None if every is None else every[of_kind(model, domain, kind)]
    ram = Measure.of(scores, asked)
    measures[0] = replace(measures[0], name="RAM, all questions")
    return [replace(ram, about=f"{ram.about}, {kind} questions"), *measures]


def _of_effects(effects: HeadEffects) -> list[Measure]:
    shown, level, alone, company = effects.task.shown, effects.level, effects.alone, effects.company
    about = f"nats of the answer's log-probability, {shown}"
    beyond = f"nats beyond what is lost without other heads at random, {shown}"
    return [
        Measure("loss without it", about, alone, level, ordered(alone.value), unit="nats"),
        Measure("loss without it, in company", beyond, company, level, ordered(company.value), unit="nats"),
    ]


def tell(story: HeadStory) -> Told:
    """What chapter 7 says of a head: what it calls it, where it looks most, and what goes wrong without it."""
    (head,) = story.head
    title = next(title for title, heads in CALLED.items() if f"{story.model.name} {head}" in heads)
    most = {row: max(keys, key=lambda key: keys[key]) for row, keys in story.looks.items()}
    looks = "; ".join(f"{key}, from {row} ({story.looks[row][key]:.0%})" for row, key in most.items())
    right = story.restored
    lines = [
        f"What it looks at most: {looks}.",
        f"Whole answers right: {right.plain.accuracy:.2f}; without this head {right.without.accuracy:.2f}; without it, "
        f"with the outputs of the CoRe heads restored, {right.put_back.accuracy:.2f}.",
    ]
    if story.patched is not None:
        lines.append(
            f"Its output taken from a prompt that differs in one word moves {story.patched.moved.value:.0%} of the "
            f"answers to that prompt's (n = {story.patched.pairs})."
        )
    counted = story.task.counted or story.task.samples
    kind = f", {story.kind} questions" if story.kind else ""
    return Told(
        f"Chapter 7: {title[0].lower()}{title[1:]}",
        (*lines, f"{story.task.domain}/{story.task.split}{kind}, n = {counted}."),
    )


def read_examples(vlm: VLM, work: Task, count: int) -> list[AttentionByWord]:
    """The attention of so many samples of a task, from its split `test`, the kinds of questions in turn.

    Raises: BadInput if the task has no such samples, or they have no pictures.
    """
    draw = work.draw("test", samples=max(count, work.available("test", 4 * count)))
    by_kind: dict[str, list[int]] = {}
    for place, sample in enumerate(draw):
        by_kind.setdefault(sample.kind, []).append(place)
    turns = sorted((turn, place) for places in by_kind.values() for turn, place in enumerate(places))
    return [attention_by_word(vlm, draw[place]) for _, place in turns[:count]]
