"""Put a finished training run into the package: weights, checkpoints, head scores of the three domains, model card.

    python tools/ship.py runs/mini-s

Everything in the model's folder is written anew from the run, so that no number in it is older than its weights.
"""

from __future__ import annotations

import argparse

from corelib.experiments.profiling import profile
from corelib.tasks import DOMAINS, task
from corelib.training.card import measure_card, write_card
from corelib.training.run import ship
from corelib.vlm import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run (`corelib train … --out RUN`)")
    parser.add_argument("--name", default="mini-s", help="the embedded model, and its recipe (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1024, help="test samples a task (default: %(default)s)")
    options = parser.parse_args()
    folder = ship(options.run, options.name)
    vlm = load(options.name)
    for domain in DOMAINS:
        scores = profile(vlm, task(domain), samples=256, seed=0)
        scores.save(folder / "scores" / f"{domain}.json")
        print(f"{domain}: accuracy {scores.task['accuracy']:.3f} on select, top {scores.order()[0]}")
    write_card(folder, measure_card(folder, options.run, samples=options.samples))
    print(f"card: {folder / 'README.md'}")


if __name__ == "__main__":
    main()
