"""The handout's table is the table of methods, and it has the symbols of the collection."""

import re
from pathlib import Path

import pytest

from hmpo_lib import METHODS

HANDOUT = (Path(__file__).resolve().parent.parent / "docs" / "handout.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
    for line in HANDOUT.splitlines()
    if line.startswith("| `")
    for cells in [line.strip("| ").split(" | ")]
}
MEANS = {1.0: "arithmetic, p = 1", 0.0: "geometric, p = 0", -1.0: "harmonic, p = −1"}


def test_the_handout_has_every_method_once_in_the_order_of_the_table():
    assert list(ROWS) == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_of_the_handout_says_what_the_method_is(name):
    mean, place, bounds, weight, source = ROWS[name]
    method = METHODS[name]
    objective = method.objective
    if objective.p is None:
        assert mean.startswith("p ")
    else:
        assert mean == MEANS[objective.p]
    low, high = (f"{bound:.5g}" if abs(bound - 1) < 0.01 else f"{bound:.4g}" for bound in objective.clip_range)
    assert (place, bounds, weight) == (objective.clip, f"{low} to {high}", objective.length_weight)
    arxiv = re.search(r"\d{4}\.\d{5}", method.source)
    if arxiv:
        assert source == arxiv[0]
