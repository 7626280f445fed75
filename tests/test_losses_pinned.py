"""The library against what TRL and verl said about a few small batches, wherever they are not installed to be asked.

`tests/oracles/record.py` wrote the numbers and says how to write them anew.
"""

import pytest

from .oracles.parity import WRONG_VARIANTS, answer, assert_same, our_loss
from .oracles.record import CASES, as_answer, as_batch, as_objective, load

PINNED = load()
ROWS = [pytest.param(row, id=f"{row['program']}, {row['case']}, {row['batch']}") for row in PINNED["rows"]]
EVERY_CASE = [(program, name) for program, cases in CASES.items() for name in cases]


@pytest.mark.parametrize("row", ROWS)
def test_loss_and_gradient_are_the_pinned_ones(row):
    batch = as_batch(PINNED["batches"][row["batch"]])
    assert_same(answer(our_loss, batch, as_objective(row)), as_answer(row))


def test_every_case_is_pinned_on_every_batch():
    pinned = {(row["program"], row["case"], row["batch"]) for row in PINNED["rows"]}
    assert pinned == {(*case, batch) for case in EVERY_CASE for batch in PINNED["batches"]}


@pytest.mark.parametrize("variant", WRONG_VARIANTS)
@pytest.mark.parametrize(("program", "name"), EVERY_CASE)
def test_the_pinned_numbers_tell_a_wrong_variant(program, name, variant):
    quotients = [
        answer(WRONG_VARIANTS[variant], as_batch(PINNED["batches"][row["batch"]]), as_objective(row)).loss / row["loss"]
        for row in PINNED["rows"]
        if (row["program"], row["case"]) == (program, name)
    ]
    assert max(abs(quotient - 1) for quotient in quotients) > 0.01
