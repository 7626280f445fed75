"""The library and the reference programs compute the same losses and gradients, and would be seen not to."""

import pytest
import torch

from .parity import WRONG_VARIANTS, answer, assert_same, batches, needs, our_loss, random_batch
from .record import CASES, as_answer, as_batch, as_objective, ask, load

EVERY_CASE = pytest.mark.parametrize(
    ("program", "name"),
    [pytest.param(program, name, marks=needs(program)) for program, cases in CASES.items() for name in cases],
)


@EVERY_CASE
def test_loss_and_gradient_are_those_of_the_reference_program(program, name):
    loss, objective = CASES[program][name]
    for batch in batches():
        assert_same(answer(our_loss, batch, objective), answer(loss, batch, objective))


@EVERY_CASE
def test_wrong_variants_are_told_from_the_reference_program(program, name):
    loss, objective = CASES[program][name]
    batch = random_batch(0, 1.0)
    theirs = answer(loss, batch, objective)
    assert_same(answer(our_loss, batch, objective), theirs)
    for wrong_loss in WRONG_VARIANTS.values():
        wrong = answer(wrong_loss, batch, objective)
        assert not torch.allclose(wrong.loss, theirs.loss, rtol=1e-3, atol=0)
        assert not torch.allclose(wrong.gradient, theirs.gradient, rtol=1e-3, atol=0)


@EVERY_CASE
def test_pinned_numbers_are_what_the_reference_program_says(program, name):
    pinned = load()
    rows = [row for row in pinned["rows"] if (row["program"], row["case"]) == (program, name)]
    assert len(rows) == len(pinned["batches"])
    for row in rows:
        now = ask(program, name, row["batch"], as_batch(pinned["batches"][row["batch"]]))
        assert as_objective(now) == as_objective(row)
        torch.testing.assert_close(tuple(as_answer(now)), tuple(as_answer(row)), rtol=1e-12, atol=0.0)
