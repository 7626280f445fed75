"""Finds the clip ranges of the family calibrated: python tools/calibrate_evidence.py. About six minutes of one core.

For p = -1, 0 and 1 and each target share a range (e^-c, e^c) at which the clip of tokens blocks that share of the
tokens with A ≠ 0 in the stale steps of a run, on the tuning seeds. Two bounds c are measured for all; then, for each
target, the bound that these two suggest. data/results/evidence/calibration.csv gets every measured share, and
`calibrated_bounds` of the plan reads the ranges off it. Nothing else of these runs is looked at or kept.
"""

import csv

import torch

from hmpo_lib.teach.what_the_evidence_says.cells import Exponents
from hmpo_lib.teach.what_the_evidence_says.plan import (
    CALIBRATION,
    FIXED,
    SHARES,
    TUNING_SEEDS,
    bound_of_share,
    bounded,
)
from hmpo_lib.teach.what_the_evidence_says.runs import ROLLOUT_FIELDS, RolloutNumbers, take

FIRST_BOUNDS = (0.01, 0.001)
BLOCKED = ROLLOUT_FIELDS.index("blocked")


def blocked_share(exponents: Exponents, bound: float) -> float:
    """Of the tokens with A ≠ 0 in the stale steps, mean over the rollouts of the tuning seeds."""
    shares = [
        numbers.rollout[BLOCKED]
        for seed in TUNING_SEEDS
        for numbers in take(bounded(exponents, bound), seed)
        if isinstance(numbers, RolloutNumbers)
    ]
    return sum(shares) / len(shares)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with CALIBRATION.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("good", "bad", "bound", "blocked"))
        for exponents in FIXED[1:4]:
            found: list[tuple[float, float]] = []
            for target in (None, *SHARES):
                bounds = FIRST_BOUNDS if target is None else (float(f"{bound_of_share(found, target):.3g}"),)
                for bound in bounds:
                    found.append((bound, blocked_share(exponents, bound)))
                    writer.writerow((exponents.good, exponents.bad, *(f"{x:.4g}" for x in found[-1])))
                    file.flush()
                    print(exponents.name, *found[-1], flush=True)
