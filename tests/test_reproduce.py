"""A row of the report card, computed anew on fewer samples."""

import pytest

from corelib.atlas import findings
from corelib.atlas.reproduce import ROWS, reproduce
from corelib.core.errors import BadInput, UnknownName


@pytest.mark.parametrize("row", ["sparsity", "division", "extraction", "necessity", "lower-ranked", "sufficiency"])
def test_a_row_comes_back_beside_what_is_committed(vlm, row):
    ((committed, anew),) = reproduce(vlm, row, seed=31, domains=("scenes",))
    assert committed == ROWS[row]("mini-s", "scenes")
    assert (anew.model, anew.domain) == ("mini-s", "scenes") and anew.estimate is not None
    assert abs(anew.estimate.value - committed.estimate.value) < 0.25


def test_rows_and_seeds_that_are_none_are_refused(vlm):
    with pytest.raises(UnknownName, match="row of the card"):
        next(reproduce(vlm, "necesity", seed=31))
    with pytest.raises(UnknownName, match="domain"):
        next(reproduce(vlm, "sparsity", seed=31, domains=("scene",)))
    with pytest.raises(BadInput, match="results of this book were drawn with"):
        next(reproduce(vlm, "sparsity", seed=20))


def test_findings_are_the_same_however_they_are_read():
    for model in ("bridge", "mini-s"):
        assert findings.find_extraction(model, "scenes").judgement.verdict.value != "not measured"
