"""Put a finished training run into the package: weights, checkpoints, its cells of the head atlas, card.

    python tools/ship.py runs/mini-s
    python tools/ship.py runs/bridge --name bridge

Everything in the model's folder is written anew from the run, so that no number in it is older than its weights.
"""

from __future__ import annotations

import argparse

from corelib.atlas.build import build_cell
from corelib.atlas.trial_cells import PROMPTS, TRIED
from corelib.core.model_folder import LANGUAGE, room
from corelib.models.load import load
from corelib.tasks import RETRIEVING, UNTRAINED
from corelib.training.card import measure_card, write_card
from corelib.training.recipe import Recipe
from corelib.training.run import ship


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run (`corelib train … --out RUN`)")
    parser.add_argument("--name", default="mini-s", help="the bundled model, and its recipe (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1024, help="test samples a task (default: %(default)s)")
    options = parser.parse_args()
    folder = ship(options.run, options.name)
    vlm = load(options.name)
    pretrained = room(options.name) == "bridge"
    long = Recipe.load(options.name).study.get("long_only", False)
    apart = long and options.name in TRIED  # its heads are ranked on its own long prompts, for the trial
    cells = [] if apart else [(vlm, domain) for domain in RETRIEVING]
    if pretrained and not apart:  # and the language model alone, before it saw anything
        alone = load(LANGUAGE)
        cells += [(one, domain) for domain in UNTRAINED for one in (vlm, alone)] + [(alone, "needle")]
    for one, domain in cells:
        print(build_cell(one, domain), flush=True)
    prompts = PROMPTS.get(options.name) if long else None
    write_card(folder, measure_card(folder, options.run, samples=options.samples, prompts=prompts))
    print(f"card: {folder / 'README.md'}")


if __name__ == "__main__":
    main()
