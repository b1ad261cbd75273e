"""What a headline cell of the trial says of acceleration, by the rule of `verdicts.py`."""

from __future__ import annotations

from functools import partial

from corelib.atlas import library, verdicts
from corelib.atlas.findings import Finding, not_yet
from corelib.atlas.trial_cells import TIMED, headline
from corelib.benchmarks.speed import Speed
from corelib.core.errors import BadResults
from corelib.experiments.trial_result import Trial


def find_acceleration(model: str, domain: str) -> Finding:
    """Are answers kept if the top 5 % of heads are dense and all others short-sighted, and is prefill faster?

    In the model's headline cell (`trial_cells`). Of short prompts accuracy alone is judged; of long ones nothing is,
    until the speed of the same heads is measured.
    """
    cell = headline(model, domain)
    if cell is None or cell.name not in library.results("trials", model):
        return not_yet(model, domain)
    speed = library.speed(model) if cell.length else None
    if cell.length and speed is None:
        return not_yet(model, domain)
    return acceleration_of(library.trial(model, cell.name), speed)


def acceleration_of(found: Trial, speed: Speed | None = None) -> Finding:
    """What a headline cell of the trial says, with the speed of its model.

    Raises: BadResults if the speed is of another model, another window, or another number of dense heads.
    """
    core = found.choices[0]
    effect = f"{core.kept.loss.percent()} lost of {found.base.accuracy:.3f}"
    judge = partial(verdicts.acceleration, core.kept.loss, core.p, len(core.matched))
    judged = judge()
    if speed is not None:
        timed = speed.model.sha256, speed.window.width, len(speed.dense)
        if timed != (found.model.sha256, found.window.width, len(core.heads)):
            raise BadResults(f"the speed of {speed.model.name} is of other weights, heads or windows than the trial")
        gains = {length: speed.at(tokens).prefill.speedup for length, tokens in TIMED.items()}
        judged = verdicts.all_of({length: judge(gain, length) for length, gain in gains.items()})
        effect += ", prefill " + ", ".join(f"{gain:.2f} times at {length}" for length, gain in gains.items())
    most = f"matched sets keep at most {max(core.matched):.3f}, p = {core.p:.3f}" if core.matched else "no matched set"
    control = f"{most}; no head dense {found.none.accuracy:.3f}"
    return Finding(found.model.name, found.task.domain, effect, control, judged, core.kept.loss)
