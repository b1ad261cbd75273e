"""Write to stdout what constraints.txt should pin: everything that the extra `dev` of corelib-heads installs here.

`make constraints` calls this in .venv after a change of dependencies. tests/test_packaging.py calls `closure` too.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What only a GPU build of torch asks for: constraints.txt must serve machines without a GPU.
GPU = re.compile(r"^(nvidia-|cuda-|triton$|pytorch-triton|cupy)")
HEADER = """\
# What `make book` and `make test` install, pinned. Made by `make constraints` with Python 3.11; not edited by hand.
# These are constraints, not requirements: pip reads them with -c, and pyproject.toml says what is needed at all.
# No CUDA package is pinned. A torch that is a GPU build brings its own; see README.md for the CPU build."""


def closure(name: str = "corelib-heads", extras: frozenset[str] = frozenset({"dev"})) -> dict[str, str]:
    """Name and version of every installed distribution that `name[extras]` leads to, itself excepted."""
    found: dict[str, str] = {}
    todo, seen = [(canonicalize_name(name), extras)], set()
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        here, wanted = item
        try:
            dist = distribution(here)
        except PackageNotFoundError:
            continue  # a requirement of another platform, or an optional one
        if here != canonicalize_name(name):
            found[here] = dist.version.split("+")[0]
        for line in dist.requires or []:
            requirement = Requirement(line)
            marker = requirement.marker
            holds = marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted or {""})
            target = canonicalize_name(requirement.name)
            if holds and not GPU.match(target):
                todo.append((target, frozenset(requirement.extras)))
    return dict(sorted(found.items()))


if __name__ == "__main__":
    print(HEADER)
    for package, version in closure().items():
        print(f"{package}=={version}")
