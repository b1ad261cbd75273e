"""Recount how often other sets cost as many right answers as the tested one, in the committed ablations.

python tools/recount_percentiles.py [FOLDER]            # corrects `percentile` → `accuracy`, and says where
python tools/recount_percentiles.py [FOLDER] --check    # changes nothing; fails if a file says something else

Losses of accuracy were once compared as real numbers, and equal ones missed by rounding wherever the number of samples
is no power of two. An accuracy times the number of samples is a whole number: those are compared here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from corelib.analysis.stats import p_value_of_counts
from corelib.atlas.library import HOME
from corelib.core.results import read_json, write_json
from corelib.experiments.ablation import Ablation


def count(accuracy: float, samples: int) -> int:
    """How many of `samples` are answered rightly."""
    right = round(accuracy * samples)
    if abs(right - accuracy * samples) > 1e-6:
        raise ValueError(f"accuracy {accuracy} of {samples} samples is no whole number of right answers")
    return right


def recounted(payload: dict) -> dict[str, tuple[float, float]]:
    """Of each null whose percentile is not that of its counts: what the file says, and what it should say."""
    samples = payload["task"]["samples"]
    tested = count(payload["conditions"]["core"]["accuracy"], samples)
    found = {}
    for name, null in payload["null"].items():
        exact = p_value_of_counts(tested, [count(one, samples) for one in null["accuracy"]])
        said = payload["percentile"][name]["accuracy"]
        if said != exact:
            found[name] = said, exact
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HOME / "ablations", help="MODEL/NAME.json lie in it")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is wrong")
    options = parser.parse_args()
    wrong = 0
    for path in sorted(options.folder.glob("*/*.json")):
        payload = read_json(path, Ablation.schema)
        for name, (said, exact) in recounted(payload).items():
            wrong += 1
            print(f"{path.parent.name}/{path.name} {name}: {said:.6g}, exact {exact:.6g}", file=sys.stderr)
            payload["percentile"][name]["accuracy"] = exact
        if not options.check and recounted(read_json(path)):
            write_json(path, payload)
    sys.exit(bool(wrong) and options.check)


if __name__ == "__main__":
    main()
