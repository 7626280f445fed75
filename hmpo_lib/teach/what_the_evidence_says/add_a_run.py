"""One more run of a cell, computed here, landing among those that were recorded; and the pool of a class's runs."""

import csv
import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hmpo_lib.teach.live import LiveRun
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PALE_GREY, Canvas, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Cell
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, RunRecord
from hmpo_lib.teach.what_the_evidence_says.runs import ROLLOUT_FIELDS, RolloutNumbers, take

REWARD = ROLLOUT_FIELDS.index("reward")


def add_a_run(evidence: Evidence, cell: Cell, seed: int, *, rollouts: int | None = None) -> LiveRun[RolloutNumbers]:
    """A `LiveRun` of one run, drawn over the recorded curves of its cell; its end falls among their means.

    The notebook cell's last line is ``records = await add_a_run(evidence, cell, seed).run()``.

    Args:
        evidence: the runs to land among.
        cell: one that has recorded runs.
        seed: one that it has not.
        rollouts: how many to make; default: the whole run.

    Raises:
        ValueError: the seed is recorded, or nothing of the cell is.
    """
    if not evidence.seeds(cell):
        raise ValueError(f"nothing of {cell.name} is recorded: expected a cell with runs to land among.")
    if seed in evidence.seeds(cell):
        raise ValueError(
            f"seed {seed} of {cell.name} is recorded already: take one of your own, such as your birthday."
        )
    total = cell.rollouts if rollouts is None else rollouts
    recorded = evidence.curves(cell)
    means = np.sort(recorded.mean(axis=1))
    canvas = Canvas(760, 300)
    places = canvas.mosaic([["curves", "means"]], width_ratios=(3, 1))
    axes, side = places["curves"], places["means"]
    tidy_axes(axes, title="Your run, and those recorded", xlabel="rollout", ylabel="mean reward", ylim=(0, 1))
    axes.set_xlim(1, cell.rollouts)
    for curve in recorded:
        axes.plot(np.arange(1, cell.rollouts + 1), curve, color=PALE_GREY, linewidth=1)
    tidy_axes(side, title="Mean over the run", ylim=(0, 1), xlim=(0, 1))
    side.set_xticks([])
    side.plot(np.linspace(0.2, 0.8, len(means)), means, "o", color=GREY, markersize=5)
    line = canvas.animate(axes.plot([], [], color=ORANGE, linewidth=2.5)[0])
    dot = canvas.animate(side.plot([], [], "o", color=ORANGE, markersize=11, markeredgecolor=BLACK)[0])

    def steps() -> Iterator[RolloutNumbers]:
        numbers = (numbers for numbers in take(cell, seed) if isinstance(numbers, RolloutNumbers))
        return itertools.islice(numbers, total)

    def draw(records: Sequence[RolloutNumbers]) -> None:
        rewards = [record.rollout[REWARD] for record in records]
        line.set_data(range(1, len(rewards) + 1), rewards)
        mean = float(np.mean(rewards))
        place = np.interp(mean, means, np.linspace(0.2, 0.8, len(means))) if len(means) > 1 else 0.5
        dot.set_data([place], [mean])

    def words(records: Sequence[RolloutNumbers]) -> str:
        mean = float(np.mean([record.rollout[REWARD] for record in records]))
        below = int((means < mean).sum())
        return (
            f"{cell.name}, seed {seed}, rollout {len(records)} of {cell.rollouts}: mean reward {mean:.3f} so far; "
            f"{below} of the {len(means)} recorded runs ({means[0]:.3f} to {means[-1]:.3f}) have less."
        )

    return LiveRun(steps, total=total, canvas=canvas, draw=draw, caption=words, alt=words)


def save_run(path: str | Path, cell: Cell, seed: int, records: Sequence[RolloutNumbers]) -> None:
    """Adds a run to a small CSV file, a line a rollout; a class puts its files together by `pool`."""
    path = Path(path)
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(("cell", "seed", "rollout", *ROLLOUT_FIELDS))
        writer.writerows(
            (cell.name, seed, k, *(f"{x:.6g}" for x in record.rollout)) for k, record in enumerate(records)
        )


def pool(evidence: Evidence, paths: Sequence[str | Path]) -> Evidence:
    """The recorded runs and those of these files; a run that was sent twice counts once, a recorded one stays.

    A run that was stopped early is left out, with a warning: its missing rollouts have not earned 0.

    Raises:
        ValueError: a file that `save_run` did not write.
    """
    added: dict[tuple[str, int], list[list[float]]] = {}
    for path in map(Path, paths):
        try:
            added |= _read(path)
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} is no file of save_run, or was changed: {error}") from error
    runs = []
    for (name, seed), rows in added.items():
        rollouts = max((len(run.columns["reward"]) for run in evidence.by_cell.get(name, {}).values()), default=0)
        if len(rows) < rollouts:
            warnings.warn(f"left out: seed {seed} of {name}, {len(rows)} of {rollouts} rollouts", stacklevel=2)
        elif seed not in evidence.by_cell.get(name, {}):
            columns = dict(zip(ROLLOUT_FIELDS, np.array(rows).T, strict=True))
            runs.append(RunRecord(name, seed, "added", "finished", "", 0.0, None, columns))
    return Evidence([*evidence.runs, *runs])


def _read(path: Path) -> dict[tuple[str, int], list[list[float]]]:
    """The numbers of each run of a file; where a run was saved twice, the later ones."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    header = ["cell", "seed", "rollout", *ROLLOUT_FIELDS]
    if not lines or lines[0] != header:
        raise ValueError(f"expected the first line {','.join(header)!r}")
    runs: dict[tuple[str, int], list[list[float]]] = {}
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise ValueError(f"line {number} has {len(line)} fields, expected {len(header)}")
        name, seed, rollout, *numbers = line
        if int(rollout) == 0:
            runs[name, int(seed)] = []
        runs.setdefault((name, int(seed)), []).append([float(x) for x in numbers])
    return runs
