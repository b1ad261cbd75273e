"""Which way to read RAM over answers of several tokens? The rule, written before the ways were compared.

Every way ranks the heads on `select`; its top 5 % is redirected on other samples (`experiments/reductions.py`).

Chosen on `validate`, seed 20: the way whose heads move most answers in documents, in the mean over all models. It must
move `MARGIN` more than the mean over rows does, and in scenes and in video no `MARGIN` less. Else the mean over rows
stays.

Confirmed on `test`, seed 21, which nothing else draws: in documents it moves more than the mean over rows does, by the
interval of the paired difference, in more than half of the models, and less in none.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from corelib.core.errors import BadInput
from corelib.experiments.reading_reductions import MEAN
from corelib.experiments.reductions_result import Reductions
from corelib.tasks import DOMAINS

MARGIN = 0.05  # of the answers
DECIDES = "documents"  # whose answers have three tokens

Compared = Mapping[str, Mapping[str, Reductions]]  # model → domain


def mean_moved(found: Compared, domain: str) -> dict[str, float]:
    """Way → share of the answers that its heads move in a domain, in the mean over the models."""
    ways = [one[domain].ways for one in found.values()]
    return {name: float(np.mean([each[name].moved.value for each in ways])) for name in ways[0]}


def choose(found: Compared) -> str:
    """The way that the rule chooses.

    Raises: BadInput if there is no model, or one that was not measured in all domains.
    """
    if not found or any(set(one) != set(DOMAINS) for one in found.values()):
        raise BadInput(f"give results of at least one model, each in {', '.join(DOMAINS)}")
    moved = {domain: mean_moved(found, domain) for domain in DOMAINS}
    allowed = [
        way
        for way in moved[DECIDES]
        if moved[DECIDES][way] - moved[DECIDES][MEAN] > MARGIN
        and all(moved[other][MEAN] - moved[other][way] <= MARGIN for other in DOMAINS if other != DECIDES)
    ]
    return max(allowed, key=lambda way: moved[DECIDES][way], default=MEAN)


def confirm(way: str, found: Mapping[str, Reductions]) -> bool:
    """Is the way better in more than half of the models, and worse in none? `found`: each model in documents."""
    differences = [one.ways[way].difference for one in found.values()]
    better = sum(one.low > 0 for one in differences)
    return better > len(differences) / 2 and not any(one.high < 0 for one in differences)
