"""Asks the installed reference programs anew: writes pinned_losses.json and prints how near the library is to them.

    cd tests && ../.venv/bin/python -m oracles.record

`tests/test_losses_pinned.py` reads the file where the programs are not installed.
"""

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from hmpo_lib import Objective

from .parity import SPREADS, Answer, Batch, Case, answer, batches, largest_difference, our_loss, random_batch
from .trl_losses import TRL_CASES
from .verl_losses import VERL_CASES

PINNED = Path(__file__).with_name("pinned_losses.json")
CASES = {"trl": TRL_CASES, "verl": VERL_CASES}


def load() -> dict[str, Any]:
    """The pinned numbers: versions, batches by name, and rows of program, case, batch, objective, loss, gradient."""
    return json.loads(PINNED.read_text(encoding="utf-8"))


def as_batch(numbers: dict[str, Any]) -> Batch:
    """Tensors from the plain numbers of one batch."""
    mask = torch.tensor(numbers["completion_mask"])
    floats = {name: torch.tensor(numbers[name], dtype=torch.float64) for name in Batch._fields[:3]}
    return Batch(**floats, completion_mask=mask)


def as_answer(row: dict[str, Any]) -> Answer:
    """What a program said in one row."""
    return Answer(*(torch.tensor(row[name], dtype=torch.float64) for name in Answer._fields))


def as_objective(row: dict[str, Any]) -> Objective:
    """The cell of the cube that one row is about."""
    return Objective(**(row["objective"] | {"clip_range": tuple(row["objective"]["clip_range"])}))


def ask(program: str, name: str, batch_name: str, batch: Batch) -> dict[str, Any]:
    """One row, from the live program."""
    case: Case = CASES[program][name]
    said = answer(case.loss, batch, case.objective)
    return {
        "program": program,
        "case": name,
        "batch": batch_name,
        "objective": dataclasses.asdict(case.objective),
        "loss": said.loss.item(),
        "gradient": said.gradient.tolist(),
    }


def write() -> None:
    """Small batches, inputs included: another torch may draw other random numbers.

    Seeds 3 to 6 give completions on both sides of the narrow clip ranges.
    """
    small = {
        name: random_batch(seed, SPREADS[name], completions=4, longest=6)
        for seed, name in enumerate(("on policy", "hardly moved", "a large step", "as far as e^20"), start=3)
    }
    stored = {
        name: {field: values.tolist() for field, values in batch._asdict().items()} for name, batch in small.items()
    }
    rows = [
        ask(program, name, batch_name, batch)
        for program, cases in CASES.items()
        for name in cases
        for batch_name, batch in small.items()
    ]
    versions = {program: version(program) for program in CASES}
    text = json.dumps({"versions": versions, "batches": stored, "rows": rows})
    # One answer a line, so that a diff shows which one has changed.
    PINNED.write_text(text.replace('{"program"', '\n{"program"') + "\n", encoding="utf-8")


def print_table() -> None:
    """The largest relative difference of the loss, and of any entry of the gradient, over all random batches."""
    asked = batches()
    print(f"{len(asked)} batches each\n{'program':12} {'case':22} {'loss':>8} {'gradient':>8}")
    for program, cases in CASES.items():
        for name, (loss, objective) in cases.items():
            found = [
                largest_difference(answer(our_loss, batch, objective), answer(loss, batch, objective))
                for batch in asked
            ]
            loss_gap, gradient_gap = (max(values).item() for values in zip(*found, strict=True))
            print(f"{program + ' ' + version(program):12} {name:22} {loss_gap:8.1e} {gradient_gap:8.1e}")


if __name__ == "__main__":
    write()
    print_table()
