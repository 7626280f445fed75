"""The runs behind docs/results.md: python tools/record_methods.py RUNS_FOLDER. Resumable: no finished run is run again.

Five methods learn from rollouts that serve for four optimizer steps each, first with their own clip ranges, then with
ranges at which the same share of the stale tokens is blocked: else a comparison of methods is one of ranges, which
differ by orders of magnitude. Ranges are calibrated on seeds 100 and 101. Seeds 0 to 4 are reported; nothing was
chosen on them.
"""

import csv
import dataclasses
import math
import os
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

import torch

from hmpo_lib import METHODS, log_power_mean
from hmpo_lib.evaluation import student_interval
from hmpo_lib.lm import FineTuneConfig, StepRecord, fine_tune, load_base_model
from hmpo_lib.lm.tasks import is_worked

METHOD_NAMES = ("grpo", "gspo", "gmpo", "hmpo", "pessimistic")
MINIBATCHES, ROLLOUTS = 4, 50
SEEDS, CALIBRATION_SEEDS = range(5), (100, 101)
BLOCKED_SHARE = 0.05  # of the tokens with A ≠ 0, in the steps after a rollout's first
FIRST, LAST = slice(10), slice(-10, None)
PAIRS = {
    ("gmpo", "grpo"): "p: 0 for 1, tokens clipped",
    ("hmpo", "gspo"): "p: −1 for 0, answers clipped",
    ("pessimistic", "gspo"): "p: −sign(A) for 0, answers clipped",
    ("gspo", "gmpo"): "clip: of answers for of tokens, p = 0",
}
GOAL, WINDOW = 0.8, 5  # learned once the mean reward of so many rollouts reaches the goal
RESULTS = Path(__file__).resolve().parent.parent / "data" / "results" / "methods.csv"

Row = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: a method with a clip range (None: its own), for a reason that the tables name."""

    method: str
    ranges: str
    seed: int
    clip_range: tuple[float, float] | None = None
    minibatches: int = MINIBATCHES

    def config(self) -> FineTuneConfig:
        """Its settings; all else is FineTuneConfig's default."""
        method = METHODS[self.method]
        if self.clip_range is not None:
            objective = dataclasses.replace(method.objective, clip_range=self.clip_range)
            method = dataclasses.replace(method, objective=objective)
        return FineTuneConfig(method, rollouts=ROLLOUTS, minibatches=self.minibatches, seed=self.seed)

    @property
    def clip_high(self) -> str:
        """The upper end of its clip range."""
        clip_range = self.config().resolved_method().objective.clip_range
        assert clip_range is not None
        return f"{clip_range[1]:.5f}"

    def take(self) -> Iterator[list[StepRecord]]:
        """Trains the shipped model; the records of one rollout after another."""
        torch.set_num_threads(1)
        model, tokenizer = load_base_model()
        for _, steps in groupby(fine_tune(model, tokenizer, self.config()), key=lambda record: record.rollout):
            yield list(steps)


def record(run: Run, folder: Path) -> list[Row]:
    """A row a rollout, from the folder if the run was finished before."""
    path = folder / f"{run.method}_{run.ranges}_{run.clip_high}_{run.seed}.csv"  # another range is another run
    if not path.is_file():
        rows = [
            {
                "method": run.method,
                "ranges": run.ranges,
                "seed": run.seed,
                "rollout": records[0].rollout,
                "reward_mean": f"{records[0].metrics['reward_mean']:.4f}",
                "worked_share": f"{statistics.mean(map(is_worked, records[0].texts)):.4f}",
                "completion_length_mean": f"{records[0].metrics['completion_length_mean']:.2f}",
                "blocked_fraction": f"{blocked_share(records):.5f}",
                "ratio_std": f"{records[-1].metrics['ratio_std']:.5f}",
            }
            for records in run.take()
        ]
        write(path, rows)
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def blocked_share(records: list[StepRecord]) -> float:
    """Mean over the stale steps of a rollout; 0 if there are none."""
    stale = [record.metrics["blocked_fraction"] for record in records[1:]]
    return statistics.mean(stale) if stale else 0.0


def calibrated_range(method: str, folder: Path) -> tuple[float, float]:
    """The range (e^−c, e^c) that blocks the share in runs with that very range, to one round of correction."""
    path = folder / f"{method}_calibrated.csv"
    if not path.is_file():
        own = pushed_log_ratios([Run(method, "calibration", seed) for seed in CALIBRATION_SEEDS])
        guess = math.exp(bound(*own, BLOCKED_SHARE))
        runs = [Run(method, "calibration", seed, (1 / guess, guess)) for seed in CALIBRATION_SEEDS]
        high = math.exp(bound(*pushed_log_ratios(runs), BLOCKED_SHARE))
        write(path, [{"guess": guess, "high": high}])
    with path.open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    return 1 / float(row["high"]), float(row["high"])


def pushed_log_ratios(runs: list[Run]) -> tuple[torch.Tensor, torch.Tensor]:
    """How far in the direction of its advantage each clipped unit of the stale steps lies, and its tokens.

    A clip at ±c blocks what exceeds c: tokens, or completions by their mean. Each step has the same weight.
    """
    values, weights = [], []
    for run in runs:
        by_token = METHODS[run.method].objective.clip == "token"
        for records in run.take():
            for step in records[1:]:
                if by_token:
                    signed = (step.advantages.sign().unsqueeze(1) * step.log_ratios)[step.completion_mask]
                    tokens = (step.advantages != 0).unsqueeze(1).expand_as(step.log_ratios)[step.completion_mask]
                else:
                    signed = step.advantages.sign() * log_power_mean(step.log_ratios, step.p, step.completion_mask)
                    tokens = (step.advantages != 0) * step.completion_mask.sum(dim=1)
                values.append(signed)
                weights.append(tokens / tokens.sum().clamp(min=1))
    return torch.cat(values), torch.cat(weights)


def bound(values: torch.Tensor, weights: torch.Tensor, share: float) -> float:
    """The c above which the given share of the weight lies."""
    order = values.argsort(descending=True)
    above = weights[order].double().cumsum(dim=0) / weights.sum()
    return float(values[order][int((above >= share).int().argmax())].clamp(min=1e-6))


def write(path: Path, rows: list) -> None:
    """Whole or not at all, so that an interrupted run is run again."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval over seeds (Student's t)."""
    return student_interval(torch.tensor(values, dtype=torch.float64))


def steps_to_goal(rewards: list[float], minibatches: int) -> float:
    """Optimizer steps before the first window of rollouts whose mean reward reaches the goal; inf if none does."""
    for end in range(WINDOW, len(rewards) + 1):
        if statistics.mean(rewards[end - WINDOW : end]) >= GOAL:
            return (end - 1) * minibatches
    return math.inf


def by_setting(rows: list[Row]) -> dict[tuple[str, str], list[list[Row]]]:
    """(method, ranges) -> runs -> rows, in the order of the rows."""
    settings: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        settings.setdefault((row["method"], row["ranges"]), {}).setdefault(row["seed"], []).append(row)
    return {setting: list(runs.values()) for setting, runs in settings.items()}


def mean_reward(run: list[Row], part: slice) -> float:
    """Over some of a run's rollouts."""
    return statistics.mean(float(row["reward_mean"]) for row in run[part])


def table(rows: list[Row]) -> str:
    """The Markdown table of every setting."""
    lines = ["| method | clip range | blocked, stale steps | rollouts 1 to 10 | last 10 rollouts | steps to 0.8 |"]
    lines += ["|---|---|---|---|---|---|"]
    for (method, ranges), runs in by_setting(rows).items():
        minibatches = 1 if ranges == "on-policy" else MINIBATCHES
        steps = [steps_to_goal([float(row["reward_mean"]) for row in run], minibatches) for run in runs]
        blocked = statistics.mean(float(row["blocked_fraction"]) for run in runs for row in run)
        cells = [
            "{:.3f} ({:.3f} to {:.3f})".format(*interval([mean_reward(run, part) for run in runs]))
            for part in (FIRST, LAST)
        ]
        reached = sum(step < math.inf for step in steps)
        all_reached = "{:.0f} ({:.0f} to {:.0f})".format(*interval(steps)) if reached == len(steps) else ""
        goal = all_reached or f"{reached} of {len(steps)} seeds"
        name = (
            ranges if ranges == "on-policy" else f"{ranges}, up to +{100 * float(runs[0][0]['clip_high']) - 100:.2g} %"
        )
        lines.append(f"| {method} | {name} | {100 * blocked:.1f} % | {cells[0]} | {cells[1]} | {goal} |")
    return "\n".join(lines)


def differences(rows: list[Row]) -> str:
    """The Markdown table of pairs of methods that differ in one thing beside the range, seed by seed."""
    settings = by_setting(rows)
    lines = ["| difference | in what | clip range | rollouts 1 to 10 | last 10 rollouts |", "|---|---|---|---|---|"]
    for ranges in ("own", "calibrated"):
        for (method, other), what in PAIRS.items():
            pairs = list(zip(settings[method, ranges], settings[other, ranges], strict=True))
            cells = [
                "{:+.3f} ({:+.3f} to {:+.3f})".format(
                    *interval([mean_reward(run, part) - mean_reward(base, part) for run, base in pairs])
                )
                for part in (FIRST, LAST)
            ]
            lines.append(f"| {method} − {other} | {what} | {ranges} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def all_rows(folder: Path) -> list[Row]:
    """Every run, two at a time, in the order of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        runs = [Run("gspo", "on-policy", seed, minibatches=1) for seed in SEEDS]
        runs += [Run(method, "own", seed) for method in METHOD_NAMES for seed in SEEDS]
        for method, clip_range in zip(
            METHOD_NAMES, pool.map(calibrated_range, METHOD_NAMES, [folder] * len(METHOD_NAMES)), strict=True
        ):
            runs += [Run(method, "calibrated", seed, clip_range) for seed in SEEDS]
        results = pool.map(record, runs, [folder] * len(runs))
        return [row | {"clip_high": run.clip_high} for run, rows in zip(runs, results, strict=True) for row in rows]


if __name__ == "__main__":
    everything = all_rows(Path(sys.argv[1]))
    RESULTS.parent.mkdir(exist_ok=True)
    write(RESULTS, everything)
    print(table(everything), differences(everything), sep="\n\n")
