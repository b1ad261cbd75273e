"""The page itself: markup, style, script and data in one file.

Nothing in it is fetched: a policy (CSP) in its head forbids that, and lets no script run but the one that is known by
its checksum. Data are JSON in which no `<` stands, and the script makes text of them, never markup.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from corelib.core.errors import BadInput
from corelib.core.values import ModelFacts
from corelib.plots.explorer.content import Domain

SCRIPTS = ("page.js", "map.js", "head.js", "attention.js")
UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}  # in a script element


def explorer_page(model: ModelFacts, domains: Sequence[Domain], *, back: tuple[str, str] | None = None) -> str:
    """A page of HTML that shows all heads of a model; `back` is a link, address and text.

    Raises: BadInput if there is no domain, or one without a measure.
    """
    if not domains or not all(one.measures for one in domains):
        raise BadInput("a page of the explorer needs one domain or more, with one measure or more each")
    data = {
        "model": {
            "name": model.name,
            "layers": model.num_layers,
            "heads": model.num_heads,
            "kv_heads": model.num_kv_heads,
            "sha256": model.sha256,
        },
        "back": back and {"href": back[0], "text": back[1]},
        "domains": [one.to_json() for one in domains],
    }
    style, script = _read("page.css"), "\n".join(map(_read, SCRIPTS))
    return Template(_read("page.html")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {_known(style)}; script-src {_known(script)}",
        title=escape(f"Heads of {model.name}"),
        style=style,
        script=script,
        data=embedded(data),
    )


def embedded(data: object) -> str:
    """Data as JSON that can stand in a script element, whatever its texts say.

    >>> embedded({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).translate(UNSAFE)


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _known(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
