"""How options are read that several commands share."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from collections.abc import Callable
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, TypeVar

import typer

from corelib.core.errors import BadInput
from corelib.core.model_folder import LANGUAGE, find_model

if TYPE_CHECKING:
    from corelib.core.head_scores import HeadScores
    from corelib.core.heads import HeadSet
    from corelib.core.results import Result
    from corelib.models.vlm import VLM
    from corelib.tasks import Draw

MODEL = (
    "A bundled model (mini-s), a folder that `corelib train` wrote, a checkpoint of the hub "
    "(Qwen/Qwen3-VL-2B-Instruct) or its folder, or tiny-random:qwen3-vl."
)
DOMAIN = (
    "scenes, documents, video; as text: needle, recital; for models that know the world: collage, folder:PATH (your "
    "own pictures), hub:NAME (public data sets)."
)


Names = TypeVar("Names", str, list[str], None)


def known_models(given: Names) -> Names:
    """The names of models, refused if one is misspelled: before torch is imported, which takes ten seconds. Checkpoints
    and folders are looked at when they are opened."""
    for name in _each(given):
        if not ("/" in name or ":" in name or name == LANGUAGE or os.path.exists(Path(name).expanduser())):
            find_model(name)
    return given


def known_domains(given: Names) -> Names:
    """The same of domains; folders and sets of the hub are read later."""
    from corelib.tasks import task

    for name in _each(given):
        if ":" not in name and name != "all":
            task(name)
    return given


def _each(given: str | list[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else given or []


class Loading(TypedDict, total=False):
    """How a published checkpoint is loaded: of these options those that were given."""

    revision: str
    device: str
    dtype: str
    device_map: str
    quantize: str


LOADING = {  # how a published checkpoint is loaded
    "revision": Annotated[str | None, typer.Option(help="Of a checkpoint of the hub: a branch, tag or commit.")],
    "device": Annotated[
        str | None, typer.Option(help="Where a checkpoint goes: cuda, cpu. Left out, a GPU if there is.")
    ],
    "dtype": Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16. Left out, what the device is fast in.")
    ],
    "device_map": Annotated[
        str | None, typer.Option(help="auto spreads a checkpoint over several GPUs (needs accelerate).")
    ],
    "quantize": Annotated[
        str | None, typer.Option(help="8bit or 4bit weights (needs bitsandbytes and an NVIDIA GPU).")
    ],
}


def loads_checkpoints(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `LOADING`; it gets those that were given in its argument `how`."""
    own = inspect.signature(command, eval_str=True)

    @wraps(command)
    def with_options(**given: object) -> None:
        how = {name: value for name in LOADING if (value := given.pop(name)) is not None}
        command(how=how, **given)

    mine = [one for name, one in own.parameters.items() if name != "how"]
    more = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in LOADING.items()]
    with_options.__dict__["__signature__"] = own.replace(parameters=[*mine, *more])
    with_options.__annotations__ = {one.name: one.annotation for one in (*mine, *more)}
    return with_options


def percent(text: str, option: str = "--top") -> float:
    """`5%` → 0.05."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if not found or not 0 < float(found[1]) <= 100:
        raise BadInput(f"{option} {text}: give a percentage above 0 and up to 100, such as 5%")
    return float(found[1]) / 100


# What commands share that test a ranking on other samples.
Ranking = Annotated[Path, typer.Option("--scores", help="The head-scores file that ranks the heads (`corelib score`).")]
RankedModel = Annotated[str, typer.Option(help=f"The model of those scores. {MODEL}", callback=known_models)]
TestedDomain = Annotated[
    str | None,
    typer.Option(
        help=f"The task to answer. Left out, the one that ranked; another one tests transfer. {DOMAIN}",
        callback=known_domains,
    ),
]
TestSamples = Annotated[int, typer.Option(help="Test samples.")]
TestSeed = Annotated[int, typer.Option(help="Seed of the samples and of the draws.")]
TestSplit = Annotated[str, typer.Option(help="Where to test. Heads are ranked on select.")]
SameSamples = Annotated[
    bool, typer.Option("--same-samples", help="Allow testing on the samples that ranked the heads.")
]


Pointing = Annotated[
    Path | None,
    typer.Option(
        "--scores",
        help="The head-scores file that ranks the heads (`corelib score`). Left out: the book's, of a bundled model.",
    ),
]


def top_heads(vlm: VLM, scores: Path | None, top: str, domain: str) -> HeadSet:
    """The top heads of a ranking: of a file, or of the book's own for a bundled model.

    Raises: BadInput if the file is of another model, or there is no ranking.
    """
    from corelib import atlas
    from corelib.atlas.ranked import ranking
    from corelib.core.head_scores import HeadScores
    from corelib.experiments.answer_sweep import check_model

    fraction = percent(top)
    if scores is None:
        if vlm.name not in atlas.models() or domain not in atlas.domains(vlm.name):
            raise BadInput(
                f"the book has no ranking of {vlm.name} for {domain}: rank its heads (corelib score --model … --out "
                "scores.json), then give --scores scores.json"
            )
        return ranking(vlm, domain).top(fraction)
    found = HeadScores.load(scores)
    check_model(vlm, found)
    return found.top(fraction)


def ranked_draw(
    scores: Path, domain: str | None, split: str, *, samples: int, seed: int, questions: int
) -> tuple[HeadScores, Draw]:
    """A ranking from its file, and the samples to test it on: of the `domain`, or of the task that ranked.

    Raises: UnknownName for a split or domain that is none; BadResults for a file without head scores; BadInput for
    samples that cannot be drawn.
    """
    from corelib.core.errors import check_known
    from corelib.core.head_scores import HeadScores
    from corelib.tasks import SPLITS, task

    check_known("split", split, SPLITS)
    ranking = HeadScores.load(scores)
    work = task(domain) if domain else task(ranking.task.domain, **(ranking.task.difficulty or {}))
    return ranking, work.draw(split, samples=samples, seed=seed, questions=questions)


def finish(found: Result, target: Path, partial: Path, first: bool) -> bool:
    """The first of several processes writes the result, and clears away what it was put together from; the others say
    that they are done. Gives whether this is the first."""
    from corelib.core import distributed

    if not first:
        distributed.leave(partial)
        return False
    found.save(target)
    if distributed.wait_for_others(partial):
        shutil.rmtree(partial)
    return True
