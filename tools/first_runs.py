"""The runs behind docs/results.md: python tools/first_runs.py RUNS_FOLDER. Resumable: a finished run is not run again.

Seeds 0 to 4 are reported; everything was chosen on seeds 100 and up.
"""

import csv
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import scipy.stats

SETTINGS = (("gspo", 1), ("hmpo", 2), ("gspo", 2), ("grpo", 2))
SEEDS = range(5)
RESULTS = Path(__file__).resolve().parent.parent / "data" / "results" / "first_runs.csv"


def run(folder: Path, method: str, minibatches: int, seed: int) -> list[dict[str, str]]:
    """Rows of metrics.csv of one run of the console script, with the run's settings put before."""
    out = folder / f"{method}_{minibatches}_{seed}"
    if not (out / "model").is_dir():
        shutil.rmtree(out, ignore_errors=True)  # what an interrupted run left
        hmpo = Path(sys.executable).with_name("hmpo")
        options = f"fine-tune --method {method} --minibatches {minibatches} --rollouts 50 --seed {seed} --out"
        subprocess.run([hmpo, *options.split(), out], check=True)
    with (out / "metrics.csv").open() as file:
        settings = {"method": method, "minibatches": str(minibatches), "seed": str(seed)}
        return [settings | row for row in csv.DictReader(file)]


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval over seeds (Student's t)."""
    mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, mean, error)
    return mean, float(low), float(high)


def table(rows: list[dict[str, str]]) -> str:
    """The Markdown table of docs/results.md."""
    lines = ["| method | minibatches | seeds | first rollout | last 10 rollouts | 95 % interval | seconds a rollout |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for method, minibatches in SETTINGS:
        runs = [
            [
                row
                for row in rows
                if (row["method"], row["minibatches"], row["seed"]) == (method, str(minibatches), seed)
            ]
            for seed in map(str, SEEDS)
        ]
        rewards = [[float(row["reward_mean"]) for row in run] for run in runs]
        mean, low, high = interval([statistics.mean(reward[-10:]) for reward in rewards])
        first = statistics.mean(reward[0] for reward in rewards)
        seconds = statistics.median(float(row["seconds"]) for run in runs for row in run)
        lines.append(
            f"| {method} | {minibatches} | {len(runs)} | {first:.3f} | {mean:.3f} | {low:.3f} to {high:.3f} "
            f"| {seconds:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    everything = [row for setting in SETTINGS for seed in SEEDS for row in run(Path(sys.argv[1]), *setting, seed)]
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(everything[0]))
        writer.writeheader()
        writer.writerows(everything)
    print(table(everything))
