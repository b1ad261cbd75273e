"""Let the API pages read docstrings that were written for people: plain text, `code` in backticks, indented blocks.

Sphinx expects reStructuredText. The library's docstrings are close to it, except that an indented block is shown as it
stands, and that `|` and a trailing `_` outside backticks are just characters. This extension says so to Sphinx.
"""

from __future__ import annotations

import re

CODE = re.compile(r"(``.+?``|`[^`]+`(?:_|__)?)")
SECTION = re.compile(r"^(\s*)(Args|Returns|Raises):$")
OWNS_A_BLOCK = re.compile(r"^\s*([*+-] |\d+[.)] |\.\. )")  # list items, directives: what is indented below is theirs


def indent(line: str) -> int:
    """How far a line is indented."""
    return len(line) - len(line.lstrip())


def escape(line: str) -> str:
    """Escape what reStructuredText would read as markup, outside backticks.

    >>> escape("chance is |E| / `|V|`, see x_ and 2 ** n")
    'chance is \\\\|E\\\\| / `|V|`, see x\\\\_ and 2 \\\\*\\\\* n'
    """
    parts = CODE.split(line)
    for i in range(0, len(parts), 2):
        text = re.sub(r"(?<!\\)\|", r"\\|", parts[i])
        text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
        if not re.match(r"\s*\* ", text) and not re.search(r"\*\S[^*]*\*", text):
            text = text.replace("*", r"\*")
        parts[i] = text
    return "".join(parts)


def sections(lines: list[str]) -> list[str]:
    """The sections `Args:`, `Returns:` and `Raises:` as lists: an entry becomes one line.

    >>> sections(["Raises:", "    BadInput: this, or", "        that.", "", "More."])
    ['*Raises*', '', '* `BadInput`: this, or that.', '', 'More.']
    """
    out: list[str] = []
    within: int | None = None  # how far the heading of the section at hand is indented
    for line in lines:
        heading = SECTION.match(line)
        if heading:
            within = indent(line)
            out += [*([] if not out or not out[-1].strip() else [""]), f"{heading[1]}*{heading[2]}*", ""]
        elif within is None or not line.strip():
            out.append(line)
        elif indent(line) == within + 4:
            name, colon, text = line.strip().partition(": ")
            named = colon and re.fullmatch(r"[\w, ]+", name)
            out.append(" " * within + (f"* `{name}`: {text}" if named else f"* {line.strip()}"))
        elif indent(line) > within + 4 and out[-1].strip():
            out[-1] += " " + line.strip()
        else:
            within = None
            out.append(line)
    return out


def convert(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText.

    >>> convert(["It is", "", "    a = |b|", "", "and |c|."])
    ['It is', '', '::', '', '    a = |b|', '', 'and \\\\|c\\\\|.']
    """
    out: list[str] = []
    lines = sections(lines)
    owner, literal = "", False  # the last line of prose, and whether an indented block below it is being copied
    for i, line in enumerate(lines):
        if not line.strip():
            out.append(line)
            continue
        if literal and indent(line) <= indent(owner):
            literal = False
        starts = i > 0 and not lines[i - 1].strip() and indent(line) > indent(owner) and owner
        if starts and not literal and not OWNS_A_BLOCK.match(owner):
            if owner.rstrip().endswith("::"):
                literal = True
            elif not line.lstrip().startswith((">>>", "* ", "- ")):
                out += [" " * indent(owner) + "::", ""]
                literal = True
        if literal or line.lstrip().startswith((">>>", "...")) or _in_doctest(lines, i):
            out.append(line)
        else:
            out.append(escape(line))
            owner = line if not (owner and OWNS_A_BLOCK.match(owner) and indent(line) > indent(owner)) else owner
    return out


def _in_doctest(lines: list[str], i: int) -> bool:
    """Whether line i is part of a doctest: its paragraph begins with a prompt."""
    while i > 0 and lines[i - 1].strip():
        i -= 1
    return lines[i].lstrip().startswith(">>>")


def _process(app, what, name, obj, options, lines):
    lines[:] = convert(lines)


def tidy(signature: str) -> str:
    """A signature that Sphinx can parse: without `<factory>`, and without quotes round an annotation.

    >>> tidy("(size: 'int | None' = 3, notes: dict = <factory>)")
    '(size: int | None = 3, notes: dict = ...)'
    """
    signature = re.sub(r"<factory>", "...", signature)
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)


def _process_signature(app, what, name, obj, options, signature, returns):
    return (tidy(signature) if signature else signature, returns.strip("'") if returns else returns)


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-process-signature", _process_signature)
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
