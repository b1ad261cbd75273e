"""How results show themselves in a notebook: a card with a table, and heads as a grid of coloured cells.

Plain HTML, with colours of its own: it reads the same on a light and on a dark page, and needs nothing drawn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

from corelib.core.heads import Head

PAPER, INK, SOFT, LINE, EVIDENCE = "#fbf8f1", "#1d2733", "#4a5668", "#d9d4c7", "#d9730d"
COLD, HOT = (251, 248, 241), (23, 74, 120)  # of a score: from the lowest to the highest
CARD = (
    f"display:inline-block;background:{PAPER};color:{INK};border:1px solid {LINE};border-radius:6px;"
    "padding:10px 14px;font:13px/1.5 system-ui,sans-serif"
)
CELL = "padding:1px 10px 1px 0;text-align:left;border:0;background:none;color:inherit"


def card(title: str, *parts: str) -> str:
    """A box with a title; `parts` are HTML, side by side where there is room."""
    name = f'<div style="font-weight:600;margin-bottom:6px">{escape(title)}</div>'
    inner = "".join(f"<div>{part}</div>" for part in parts)
    return f'<div style="{CARD}">{name}<div style="display:flex;flex-wrap:wrap;gap:6px 28px">{inner}</div></div>'


def rows(table: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """A small table of texts.

    >>> "<td" in rows([["a", 1]]) and "<th" in rows([["a"]], ["name"])
    True
    """
    head = "".join(f'<th style="{CELL};color:{SOFT};font-weight:400">{escape(name)}</th>' for name in header)
    body = "".join(
        f'<tr style="background:none">{"".join(f"<td style={CELL!r}>{escape(str(one))}</td>" for one in row)}</tr>'
        for row in table
    )
    first = f"<tr>{head}</tr>" if header else ""
    return f'<table style="border-collapse:collapse;margin:4px 0;font:inherit">{first}{body}</table>'


def head_grid(table: Sequence[Sequence[float]], marked: Collection[Head] = ()) -> str:
    """Layers × heads, the deepest layer on top: the higher a score, the darker; `marked` heads are framed. Pointing at
    a cell shows its head and score.

    >>> head_grid([[0.0, 1.0]], [Head(0, 1)]).count("title=")
    2
    """
    values = [value for row in table for value in row]
    low, high = min(0.0, *values), max(values)
    size = max(6, min(20, 360 // max(len(table), len(table[0]))))
    lines = []
    for layer in range(len(table) - 1, -1, -1):
        cells = []
        for index, value in enumerate(table[layer]):
            part = (value - low) / (high - low) if high > low else 0.0
            shade = ",".join(str(round(a + part * (b - a))) for a, b in zip(COLD, HOT, strict=True))
            frame = f"outline:2px solid {EVIDENCE};outline-offset:-2px" if Head(layer, index) in marked else ""
            style = f"width:{size}px;height:{size}px;padding:0;border:1px solid {LINE};background:rgb({shade});{frame}"
            cells.append(f'<td title="L{layer}H{index}: {value:.3g}" style="{style}"></td>')
        name = f'<td style="{CELL};padding-right:4px;color:{SOFT};font-size:10px;line-height:1">{layer}</td>'
        lines.append(f'<tr style="background:none">{name}{"".join(cells)}</tr>')
    caption = f'<div style="color:{SOFT};font-size:11px">layer (up) × head; framed: the top</div>'
    return f'<table style="border-collapse:collapse;margin:4px 0">{"".join(lines)}</table>{caption}'
