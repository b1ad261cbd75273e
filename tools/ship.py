"""Put a finished training run into the package: weights, checkpoints, head scores of every task with evidence, card.

    python tools/ship.py runs/mini-s
    python tools/ship.py runs/bridge --name bridge

Everything in the model's folder is written anew from the run, so that no number in it is older than its weights.
"""

from __future__ import annotations

import argparse

from corelib.embedded import room
from corelib.experiments.profiling import profile
from corelib.tasks import RETRIEVING, UNTAUGHT, task
from corelib.training.card import measure_card, write_card
from corelib.training.run import ship
from corelib.vlm import LANGUAGE, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run (`corelib train … --out RUN`)")
    parser.add_argument("--name", default="mini-s", help="the embedded model, and its recipe (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1024, help="test samples a task (default: %(default)s)")
    options = parser.parse_args()
    folder = ship(options.run, options.name)
    vlm = load(options.name)
    (folder / "scores").mkdir(exist_ok=True)
    pretrained = room(options.name) == "bridge"
    for domain in (*RETRIEVING, *(UNTAUGHT if pretrained else ())):
        scores = profile(vlm, task(domain), samples=256, seed=0)
        scores.save(folder / "scores" / f"{domain}.json")
        print(f"{domain}: accuracy {scores.task['accuracy']:.3f} on select, top {scores.order()[0]}", flush=True)
    if pretrained:  # the language model alone, before it saw anything
        for domain in ("needle", *UNTAUGHT):
            scores = profile(load(LANGUAGE), task(domain), samples=256, seed=0)
            scores.save(folder / "scores" / f"{domain}-before.json")
    write_card(folder, measure_card(folder, options.run, samples=options.samples))
    print(f"card: {folder / 'README.md'}")


if __name__ == "__main__":
    main()
