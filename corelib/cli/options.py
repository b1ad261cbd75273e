"""How options are read that several commands share."""

from __future__ import annotations

import re

from corelib.errors import BadInput


def percent(text: str, option: str = "--top") -> float:
    """`5%` → 0.05."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if not found or not 0 < float(found[1]) <= 100:
        raise BadInput(f"{option} {text}: give a percentage above 0 and up to 100, such as 5%")
    return float(found[1]) / 100
