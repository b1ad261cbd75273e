"""The checks of the book's exercises, one file a chapter. A check says `right`, or `not yet` and why.

    from corelib.exercises.chapter02 import check_lift
    check_lift(my_lift)

Notebooks alone import them. `tests/test_exercises.py` holds each to its solution, its stub and typical mistakes.
"""
