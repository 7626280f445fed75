"""The runs that were made: data/results/evidence/, which tools/pack_evidence.py writes."""

import csv
import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hmpo_lib.teach.recordings import recording_path
from hmpo_lib.teach.what_the_evidence_says.cells import Cell

RECORDED = recording_path("evidence")
LAST = 0.25  # of the rollouts are "the end" of a run
GOAL, WINDOW = 0.8, 3

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run.

    Attributes:
        cell: its cell's name.
        seed: its seed.
        family: the first family of the plan that asked for it.
        status: ``"finished"``, or why it broke off.
        commit: of the code that made it.
        cpu_seconds: that it took.
        held_out: (reward, entropy) on held-out prompts at the end; None where it broke off.
        columns: by the names of ROLLOUT_FIELDS, a number a rollout.
    """

    cell: str
    seed: int
    family: str
    status: str
    commit: str
    cpu_seconds: float
    held_out: tuple[float, float] | None
    columns: dict[str, Floats]


class Evidence:
    """All runs, by cell and seed.

    Args:
        runs: of two with the same cell and seed the last counts.

    Attributes:
        by_cell: cell's name -> seed -> its record.
        lines: (cell's name, seed) of each run, in the order given.
    """

    def __init__(self, runs: Iterable[RunRecord]) -> None:
        self.by_cell: dict[str, dict[int, RunRecord]] = {}
        runs = list(runs)
        self.lines = [(run.cell, run.seed) for run in runs]
        for run in runs:
            self.by_cell.setdefault(run.cell, {})[run.seed] = run

    @property
    def runs(self) -> list[RunRecord]:
        """Every run."""
        return [run for seeds in self.by_cell.values() for run in seeds.values()]

    def seeds(self, cell: Cell) -> list[int]:
        """Which seeds of a cell were run, in order."""
        return sorted(self.by_cell.get(cell.name, {}))

    def has(self, cell: Cell, seeds: Iterable[int]) -> bool:
        """Whether these runs of the cell were made."""
        return set(seeds) <= set(self.seeds(cell))

    def curve(self, cell: Cell, seed: int, field: str = "reward") -> Floats:
        """A number a rollout, ``[rollouts]``. Where a run broke off, its reward is 0 from there and the rest nan."""
        values = self.by_cell[cell.name][seed].columns[field]
        missing = np.full(cell.rollouts - len(values), 0.0 if field == "reward" else np.nan)
        return np.concatenate([values, missing])

    def curves(self, cell: Cell, field: str = "reward", seeds: Iterable[int] | None = None) -> Floats:
        """``[seeds, rollouts]``."""
        return np.stack([self.curve(cell, seed, field) for seed in (self.seeds(cell) if seeds is None else seeds)])

    def mean_reward(self, cell: Cell, seeds: Iterable[int] | None = None) -> Floats:
        """The primary metric of each run: the mean over its rollouts, ``[seeds]``."""
        return self.curves(cell, seeds=seeds).mean(axis=1)

    def collapsed(self, cell: Cell, seeds: Iterable[int] | None = None, *, below: float = 0.5) -> NDArray[np.bool_]:
        """Whether each run's end is below this part of its first rollout, ``[seeds]``."""
        curves = self.curves(cell, seeds=seeds)
        return end_of(curves) < below * curves[:, 0]


def end_of(curves: Floats) -> Floats:
    """The mean over the last quarter of the rollouts, ``[..., rollouts] -> [...]``."""
    return curves[..., -max(1, round(LAST * curves.shape[-1])) :].mean(axis=-1)


def rollouts_to_goal(curve: Floats) -> float:
    """Rollouts before the third of the first three in a row whose mean is the goal; inf if there are none.

    >>> rollouts_to_goal(np.array([0.5, 0.7, 0.8, 0.9, 0.9]))
    3.0
    """
    means = np.convolve(curve, np.ones(WINDOW) / WINDOW, mode="valid")
    (reached,) = np.nonzero(means >= GOAL - 1e-12)
    return float(reached[0] + WINDOW - 1) if len(reached) else np.inf


def load_evidence(folder: str | Path = RECORDED) -> Evidence:
    """The repository's records, or another folder that tools/pack_evidence.py wrote.

    Raises:
        FileNotFoundError: the folder has no records.
    """
    folder = Path(folder)
    if not (folder / "runs.csv").is_file():
        raise FileNotFoundError(
            f"no records at {folder}: run inside the repository, whose folder data/results/evidence/ has them, or give "
            "the path of another."
        )
    return Evidence(_read(folder, (folder / "runs.csv").stat().st_mtime_ns))


@functools.cache
def _read(folder: Path, changed: int) -> list[RunRecord]:
    """Of this folder as it was changed last: packed again, it is read again."""
    with (folder / "rollouts.csv").open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    table = np.array(lines, dtype=np.float64).reshape(-1, len(header))
    with (folder / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    bounds = np.searchsorted(table[:, 0], np.arange(len(rows) + 1))
    return [
        RunRecord(
            cell=row["cell"],
            seed=int(row["seed"]),
            family=row["family"],
            status=row["status"],
            commit=row["commit"],
            cpu_seconds=float(row["cpu_seconds"]),
            held_out=(float(row["held_out_reward"]), float(row["held_out_entropy"]))
            if row["held_out_reward"]
            else None,
            columns=dict(zip(header[2:], table[bounds[k] : bounds[k + 1], 2:].T, strict=True)),
        )
        for k, row in enumerate(rows)
    ]
