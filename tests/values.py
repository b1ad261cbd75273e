"""Values that tests need and that no model has measured."""

from __future__ import annotations

from corelib.core.head_scores import HeadScores, Interval
from corelib.core.values import MetricFacts, ModelFacts, TaskFacts


def some_scores(
    table, *, name: str = "m", sha256: str = "a", domain: str = "scenes", low=None, high=None, **more
) -> HeadScores:
    """Head scores with this table, [layer][head]; the interval is the score itself unless it is given."""
    values = [[float(value) for value in row] for row in table]
    return HeadScores(
        model=ModelFacts(name, sha256, len(values), len(values[0]), 1),
        task=TaskFacts(domain, "select", 0, 2, accuracy=0.5),
        metric=MetricFacts("raw", "answer", "mean"),
        values=values,
        interval=Interval(0.95, values if low is None else low, values if high is None else high),
        **more,
    )
