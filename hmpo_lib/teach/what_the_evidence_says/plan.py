"""Which runs answer which question, in the order in which they are made: docs/evidence_plan.md as a table."""

import csv
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal

from hmpo_lib.methods import METHODS
from hmpo_lib.objectives import Clip
from hmpo_lib.teach.recordings import recording_path
from hmpo_lib.teach.what_the_evidence_says.cells import Cell, Exponents

Run = tuple[Cell, int]  # with its seed

# p of the mean: five fixed ones, the pessimistic p = −sign(A), and the optimistic p = +sign(A)
FIXED = [Exponents(p, p) for p in (-2.0, -1.0, 0.0, 1.0, 2.0)]
GEOMETRIC, PESSIMISTIC, OPTIMISTIC = Exponents(0.0, 0.0), Exponents(-1.0, 1.0), Exponents(1.0, -1.0)
SEVEN = [*FIXED, PESSIMISTIC, OPTIMISTIC]
FIVE = [*FIXED[1:4], PESSIMISTIC, OPTIMISTIC]
# (p for A > 0, p for A < 0): each half of the pessimistic mean alone, then each half of the optimistic one
HALVES = [(0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (1.0, 0.0)]

SEEDS, FEW_SEEDS, TWIN_SEEDS = range(500, 510), range(500, 505), range(500, 520)
NEW_SEEDS = range(510, 520)  # for what was found on the others
TUNING_SEEDS = range(320, 322)  # used by no other family, and not reported
TUNING_RATES = (2.5e-5, 5e-5, 1e-4, 2e-4)
# What the tuning chose: the rate with the largest mean reward over the two runs.
TUNED_RATES = {f"p={exponents.name}": 5e-5 for exponents in SEVEN[:6]} | {
    f"p={OPTIMISTIC.name}": 2.5e-5, "grpo": 5e-5, "gspo": 1e-4, "gmpo": 5e-5,
}  # fmt: skip
LARGER_STEPS = (60, 80, 100, 120, 140, 160, 180, 200, 240, 280, 320, 400)  # tried by tools/make_larger_model.py
LARGER_RATE = 2.5e-5  # that a pilot on the tuning seeds chose: the common rate is too large for the larger model

ORDINARY, NARROW = (0.8, 1.25), (0.99, 1 / 0.99)  # symmetric in the logarithm
ONE_SIDE: tuple[Literal["bad", "good"], ...] = ("bad", "good")
SHARES = (0.05, 0.2)  # of the stale tokens, which a calibrated clip blocks
CALIBRATION = recording_path("evidence") / "calibration.csv"  # of tools/calibrate_evidence.py
# For each place and share the bounds c of the ranges (e^-c, e^c) that these measurements suggest, in FIVE's order.
CALIBRATED: dict[tuple[Clip, float], tuple[float, ...]] = {
    ("token", 0.05): (0.00821, 0.00921, 0.00554, 0.00831, 0.00672),
    ("token", 0.2): (4.87e-5, 5.04e-5, 5.07e-5, 4.8e-5, 4.99e-5),
    ("sequence", 0.05): (0.0851, 0.0234, 0.0213, 0.014, 0.312),
    ("sequence", 0.2): (0.00314, 0.00299, 0.0039, 0.00315, 0.005),
}
PUBLISHED = ("grpo", "gspo", "gmpo", "hmpo", "pessimistic")


def _cross(cells: Sequence[Cell], seeds: Sequence[int]) -> list[Run]:
    return list(itertools.product(cells, seeds))


def published_cell(name: str, learning_rate: float = 1e-4) -> Cell:
    """A published method with its own clip; all else as in the plain cell."""
    objective = METHODS[name].objective
    p = objective.p
    assert isinstance(p, float) or name == "pessimistic"
    exponents = Exponents(p, p) if isinstance(p, float) else PESSIMISTIC
    return Cell(exponents, objective.clip, objective.clip_range, learning_rate)


def lagging(exponents: Exponents, *, policy_lag: int = 4, rollouts: int = 24) -> Cell:
    """No clip, every answer used in one step, sampled by the policy as it was some rollouts of four steps ago."""
    return Cell(exponents, minibatches=4, policy_lag=policy_lag, rollouts=rollouts)


def often(exponents: Exponents) -> Cell:
    """No clip, 64 steps a rollout: four passes over its 16 minibatches."""
    return Cell(exponents, epochs=4, rollouts=8)


def boundary_cell(exponents: Exponents, *, clipped: bool, steps: int, learning_rate: float) -> Cell:
    """How far can one go? 4, 16 or 64 steps a rollout at a rate, without a clip or with tokens clipped."""
    minibatches, epochs, rollouts = {4: (4, 1, 16), 16: (16, 1, 16), 64: (16, 4, 8)}[steps]
    return Cell(
        exponents,
        "token" if clipped else None,
        ORDINARY if clipped else None,
        learning_rate,
        minibatches,
        epochs,
        rollouts=rollouts,
    )


def larger(exponents: Exponents, *, clipped: bool = False) -> Cell:
    """The larger model, without a clip or with tokens clipped."""
    clip: Clip | None = "token" if clipped else None
    return Cell(exponents, clip, ORDINARY if clipped else None, LARGER_RATE, model="larger")


def bounded(exponents: Exponents, bound: float, place: Clip = "token") -> Cell:
    """Tokens or answers clipped to (e^-bound, e^bound)."""
    return Cell(exponents, place, (math.exp(-bound), math.exp(bound)))


def measured_shares(place: Clip, exponents: Exponents) -> list[tuple[float, float]]:
    """(bound, blocked share) of each calibrating pair of runs, in the order in which they were made."""
    with CALIBRATION.open(encoding="utf-8", newline="") as file:
        return [
            (float(row["bound"]), float(row["blocked"]))
            for row in csv.DictReader(file)
            if (row["place"], float(row["good"]), float(row["bad"])) == (place, *dataclasses.astuple(exponents))
        ]


def calibrated_cells(place: Clip, share: float) -> list[Cell]:
    """FIVE, each with the range that blocks this share of its stale tokens."""
    return [bounded(e, bound, place) for e, bound in zip(FIVE, CALIBRATED[place, share], strict=True)]


def bound_of_share(measured: Sequence[tuple[float, float]], share: float) -> float:
    """The bound that blocks this share: a line through the measured ones, in logarithms, on and on at its ends.

    Args:
        measured: (bound, blocked share), at least two.
        share: between 0 and 1.

    >>> round(bound_of_share([(0.01, 0.04), (0.001, 0.16)], 0.08), 6)
    0.003162
    """
    points = sorted((math.log(blocked), math.log(bound)) for bound, blocked in measured)
    k = min(max(sum(x < math.log(share) for x, _ in points), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[k - 1 : k + 1]
    return math.exp(y0 + (y1 - y0) * (math.log(share) - x0) / (x1 - x0))


def design_runs() -> list[Run]:
    """Half of all combinations of seven factors, such that no main effect is mixed up with that of two others together.

    Four factors have two levels, and the product of their signs is +1; three have three levels: 8 · 27 = 216 runs. The
    seeds are laid over the latter, so that the 72 runs of each seed are balanced by themselves. They come in two halves
    of 36, each nearly balanced: of the eight combinations of two-level factors four belong to the first.
    """
    runs: list[tuple[int, int, Cell]] = []
    for i, j, k in itertools.product(range(3), repeat=3):
        clip_range = (None, ORDINARY, NARROW)[j]
        for a, b, c in itertools.product((0, 1), repeat=3):
            place: Clip = ("token", "sequence")[a]
            cell = Cell(
                FIXED[1 + i],
                None if clip_range is None else place,
                clip_range,
                (5e-5, 1e-4, 2e-4)[k],
                minibatches=(4, 16)[(a + b + c) % 2],
                length_weight=("equal", "proportional")[b],
                advantage_scale=("std", "none")[c],
            )
            late = (a ^ b, b ^ c, c ^ a)[i] ^ ((i + j) % 2)
            runs.append((SEEDS[(i + j + k) % 3], late, cell))
    return [(cell, seed) for seed, _, cell in sorted(runs, key=lambda run: run[:2])]  # stable


def tuning_cells() -> dict[str, list[Cell]]:
    """What is tuned -> the same cell with each rate."""
    tuned = {f"p={exponents.name}": Cell(exponents) for exponents in SEVEN}
    tuned |= {name: published_cell(name) for name in ("grpo", "gspo", "gmpo")}
    return {name: [cell.with_rate(rate) for rate in TUNING_RATES] for name, cell in tuned.items()}


def tuned_cells() -> dict[str, Cell]:
    """The same, each at its best rate."""
    return {name: cells[TUNING_RATES.index(TUNED_RATES[name])] for name, cells in tuning_cells().items()}


# In the order in which they are run: where time ends, the later families are short of cells, never of seeds.
FAMILIES: dict[str, list[Run]] = {
    "no_clip": _cross([Cell(exponents) for exponents in SEVEN], SEEDS),
    "half": _cross([Cell(Exponents(*HALVES[0]))], SEEDS),
    "token_clip": _cross([Cell(e, "token", ORDINARY) for e in (GEOMETRIC, FIXED[1], OPTIMISTIC)], SEEDS),
    "design": design_runs()[:36],
    "token_clip_more": _cross([Cell(FIXED[3], "token", ORDINARY)], SEEDS),
    "twins": _cross([Cell(GEOMETRIC, twin=True)], SEEDS),
    "lag": _cross([lagging(exponents) for exponents in FIXED[1:4]], SEEDS),
    "halves": _cross([Cell(Exponents(*pair)) for pair in HALVES[:2]], SEEDS),
    "on_policy": _cross([Cell(exponents, minibatches=1) for exponents in FIVE], SEEDS[:3]),
    "design_block": design_runs()[36:72],
    "published": _cross([published_cell(name) for name in PUBLISHED], SEEDS),
    "lag_more": _cross([lagging(exponents) for exponents in (PESSIMISTIC, OPTIMISTIC)], SEEDS),
    "design_again": design_runs()[72:],
    "halves_again": _cross([Cell(Exponents(*pair)) for pair in HALVES[2:]], SEEDS),
    "more_twins": _cross([Cell(GEOMETRIC), Cell(GEOMETRIC, twin=True)], TWIN_SEEDS),
    "in_the_head": _cross([Cell(exponents, task="in_the_head") for exponents in FIVE], SEEDS),
    "sequence_clip": _cross([Cell(exponents, "sequence", ORDINARY) for exponents in SEVEN], SEEDS),
    "calibrated": _cross(calibrated_cells("token", SHARES[0])[:3], SEEDS),
    "calibrated_more": _cross(calibrated_cells("token", SHARES[1])[:3], SEEDS),
    "muon": _cross([Cell(exponents, optimizer="muon") for exponents in FIVE], SEEDS),
    "tuning": _cross([cell for cells in tuning_cells().values() for cell in cells], TUNING_SEEDS),
    "tuned": _cross(list(tuned_cells().values()), SEEDS),
    "token_clip_far": _cross([Cell(e, "token", ORDINARY) for e in (PESSIMISTIC, FIXED[0], FIXED[4])], SEEDS),
    **{f"{side}_alone": _cross([Cell(exponents, heard=side) for exponents in FIXED[1:4]], SEEDS) for side in ONE_SIDE},
    "reuse": _cross([Cell(exponents, minibatches=4) for exponents in FIVE], FEW_SEEDS),
    "more_reuse": _cross([often(exponents) for exponents in FIVE], FEW_SEEDS),
    "boundary": _cross(
        [
            boundary_cell(exponents, clipped=clipped, steps=steps, learning_rate=rate)
            for steps in (16, 4, 64)
            for rate in (2e-4, 4e-4)
            for clipped in (False, True)
            for exponents in FIVE[:4]
        ],
        SEEDS[:3],
    ),
    "boundary_more": _cross(
        [
            boundary_cell(exponents, clipped=True, steps=steps, learning_rate=1e-4)
            for steps in (4, 64)
            for exponents in FIVE[:4]
        ],
        SEEDS[:3],
    ),
    "reuse_again": _cross([often(exponents) for exponents in (*FIXED[1:], PESSIMISTIC)], NEW_SEEDS),
    "more_reuse_halves": _cross([often(Exponents(*pair)) for pair in HALVES[:2]], FEW_SEEDS),
    "calibrated_signs": _cross(calibrated_cells("token", SHARES[0])[3:], SEEDS),
    "amount": _cross([Cell(Exponents(-q, q)) for q in (0.25, 0.5, 2.0, 4.0, 8.0)], SEEDS),
    "calibrated_answers": _cross(calibrated_cells("sequence", SHARES[0]), SEEDS),
    "twins_clipped": _cross(
        [Cell(GEOMETRIC, "token", ORDINARY), Cell(GEOMETRIC, "token", ORDINARY, twin=True)], TWIN_SEEDS
    ),
    "longer_lag": _cross([lagging(exponents, policy_lag=16, rollouts=32) for exponents in FIVE], FEW_SEEDS),
    "calibrated_more_signs": _cross(calibrated_cells("token", SHARES[1])[3:], SEEDS),
    "calibrated_more_answers": _cross(calibrated_cells("sequence", SHARES[1]), SEEDS),
    "larger_model": _cross([larger(e) for e in (GEOMETRIC, *FIXED[1::2], PESSIMISTIC, OPTIMISTIC)], SEEDS),
    "larger_model_clip": _cross([larger(e, clipped=True) for e in (GEOMETRIC, *FIXED[1::2], OPTIMISTIC)], SEEDS),
}
ON_OTHER_MACHINES = ("larger_model", "larger_model_clip")  # families that are made only where they are asked for


def label(exponents: Exponents) -> str:
    """How a reader sees the exponents.

    >>> label(PESSIMISTIC), label(Exponents(-2.0, -2.0)), label(Exponents(0.0, 1.0)), label(Exponents(-0.5, 0.5))
    ('−sign A', '−2', '0 | 1', '−0.5 sign A')
    """
    good, bad = (f"{p:g}".replace("-", "−") for p in (exponents.good, exponents.bad))
    if exponents.good == exponents.bad:
        return good
    if exponents.good == -exponents.bad:
        amount = f"{abs(exponents.good):g} " if abs(exponents.good) != 1 else ""
        return f"{'−' if exponents.good < 0 else '+'}{amount}sign A"
    return f"{good} | {bad}"


def cell_of(family: str, exponents: Exponents) -> Cell:
    """The cell of an exponent in a family whose cells differ in the exponent, or in what goes with it."""
    runs = [*FAMILIES[family], *FAMILIES.get(f"{family}_signs", [])]
    cells = {cell.exponents: cell for cell, _ in reversed(runs)}  # the first of each
    first = FAMILIES[family][0][0]
    return cells.get(exponents, dataclasses.replace(first, exponents=exponents))
