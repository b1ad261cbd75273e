"""Keep a run that is not finished, or unfold it again (`corelib/training/kept_run.py`).

python tools/keep_run.py keep runs/bridge-long unfinished/bridge-long
python tools/keep_run.py unfold unfinished/bridge-long runs/bridge-long
"""

from __future__ import annotations

import argparse
from pathlib import Path

from corelib.training.kept_run import keep, unfold

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("keep", "unfold"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    print({"keep": keep, "unfold": unfold}[options.action](options.source, options.target))
