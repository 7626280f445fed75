"""Finds the clip ranges of the calibrated families: python tools/calibrate_evidence.py. About 15 minutes of one core.

For each exponent, each place of the clip and each target share a range (e^-c, e^c) at which the clip blocks that share
of the tokens with A ≠ 0 in the stale steps of a run, on the tuning seeds. Two bounds c are measured for all; then, for
each target, the bound that these suggest, and where answers are clipped, whose two bounds lie on one side of 5 %, once
more for that. data/results/evidence/calibration.csv gets every measured share (what is
there is not measured again), and the plan reads its ranges off it. Nothing else of these runs is looked at or kept.
"""

import csv
import itertools

import torch

from hmpo_lib.objectives import Clip
from hmpo_lib.teach.what_the_evidence_says.cells import Exponents
from hmpo_lib.teach.what_the_evidence_says.plan import (
    CALIBRATION,
    FIVE,
    SHARES,
    TUNING_SEEDS,
    bound_of_share,
    bounded,
    measured_shares,
)
from hmpo_lib.teach.what_the_evidence_says.runs import ROLLOUT_FIELDS, RolloutNumbers, take

FIRST_BOUNDS: dict[Clip, tuple[float, float]] = {"token": (0.01, 0.001), "sequence": (0.003, 0.0003)}
TARGETS: dict[Clip, tuple[float, ...]] = {"token": SHARES, "sequence": (*SHARES, SHARES[0])}
BLOCKED = ROLLOUT_FIELDS.index("blocked")


def blocked_share(exponents: Exponents, bound: float, place: Clip) -> float:
    """Of the tokens with A ≠ 0 in the stale steps, mean over the rollouts of the tuning seeds."""
    shares = [
        numbers.rollout[BLOCKED]
        for seed in TUNING_SEEDS
        for numbers in take(bounded(exponents, bound, place), seed)
        if isinstance(numbers, RolloutNumbers)
    ]
    return sum(shares) / len(shares)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for (place, first_bounds), exponents in itertools.product(FIRST_BOUNDS.items(), FIVE):
        found = measured_shares(place, exponents)
        for target in (None, None, *TARGETS[place])[len(found) :]:
            bound = first_bounds[len(found)] if target is None else float(f"{bound_of_share(found, target):.3g}")
            found.append((bound, blocked_share(exponents, bound, place)))
            with CALIBRATION.open("a", encoding="utf-8", newline="") as file:
                row = (place, exponents.good, exponents.bad, *(f"{x:.4g}" for x in found[-1]))
                csv.writer(file, lineterminator="\n").writerow(row)
            print(place, exponents.name, *found[-1], flush=True)
