"""The head explorer: one page of HTML that shows every head of a model, and needs no network.

    page = explorer_page(scores.model, [Domain("scenes", [Measure.of(scores)])])
    Path("heads.html").write_text(page, encoding="utf-8")

`content.py` and `examples.py` say what lies in the page; `page.html`, `page.css` and four scripts, how it is shown.
"""

from corelib.plots.explorer.content import Domain, Measure, Told
from corelib.plots.explorer.page import explorer_page

__all__ = ["Domain", "Measure", "Told", "explorer_page"]
