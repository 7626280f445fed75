"""Copies finished runs into data/results/evidence/: python tools/pack_evidence.py RUNS [--into FOLDER].

runs.csv has a line a run, rollouts.csv a line a rollout (its first column is the line of runs.csv, from 0; its last
ones are means over the rollout's steps), and steps.safetensors the steps themselves, for runs of 16 rollouts of 16
steps. Runs that are there and not in RUNS stay.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hmpo_lib.teach.what_the_evidence_says.plan import FAMILIES
from hmpo_lib.teach.what_the_evidence_says.records import RECORDED
from hmpo_lib.teach.what_the_evidence_says.runs import ROLLOUT_FIELDS, STEP_FIELDS

RUN_FIELDS = ("cell", "seed", "family", "status", "commit", "python", "torch", "transformers", "began", "machine")
NUMBERS = ("cpu_seconds", "wall_seconds", "held_out_reward", "held_out_entropy")
SHAPE = (16, 16)  # rollouts and steps of the runs whose steps are kept

Key = tuple[str, int]


def main() -> None:
    """Merges what is there with what is new."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--into", type=Path, default=RECORDED)
    arguments = parser.parse_args()
    paths = sorted(arguments.runs.glob("*.json"))
    if not paths:
        parser.error(f"no *.json in {arguments.runs}: expected a folder of tools/record_evidence.py")
    arguments.into.mkdir(parents=True, exist_ok=True)
    runs, rollouts, steps = read_packed(arguments.into)
    for path in paths:
        run = {"machine": "CPU"} | json.loads(path.read_text(encoding="utf-8"))
        if (*run.get("rollout_fields", ()), *run.get("step_fields", ())) != (*ROLLOUT_FIELDS, *STEP_FIELDS):
            parser.error(f"{path} is no record of tools/record_evidence.py, or one of another version")
        key = run["cell"], run["seed"]
        held_out = run["held_out"] or ("", "")
        runs[key] = {name: run[name] for name in (*RUN_FIELDS, *NUMBERS[:2])} | dict(
            zip(NUMBERS[2:], held_out, strict=True)
        )
        spreads = [torch.tensor(rollout)[:, :4].nanmean(dim=0).tolist() for rollout in run["steps"]]
        rollouts[key] = [row + spread for row, spread in zip(run["rollouts"], spreads, strict=True)]
        if (len(run["steps"]), *{len(rollout) for rollout in run["steps"]}) == SHAPE:
            steps[key] = torch.tensor(run["steps"])
    write(arguments.into, runs, rollouts, steps)
    print(f"{len(runs)} runs, {sum(float(run['cpu_seconds']) for run in runs.values()) / 3600:.2f} processor hours")


def read_packed(folder: Path) -> tuple[dict[Key, Any], dict[Key, Any], dict[Key, torch.Tensor]]:
    """What an earlier call has written, by cell and seed."""
    if not (folder / "runs.csv").is_file():
        return {}, {}, {}
    with (folder / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"machine": "CPU"} | row for row in csv.DictReader(file)]
    keys = [(row["cell"], int(row["seed"])) for row in rows]
    rollouts: dict[Key, Any] = {key: [] for key in keys}
    with (folder / "rollouts.csv").open(encoding="utf-8", newline="") as file:
        for line in list(csv.reader(file))[1:]:
            rollouts[keys[int(line[0])]].append([float(x) for x in line[2:]])
    packed = load_file(folder / "steps.safetensors")
    steps = {keys[line]: packed["steps"][k].float() for k, line in enumerate(packed["lines"].tolist())}
    return dict(zip(keys, rows, strict=True)), rollouts, steps


def write(folder: Path, runs: dict[Key, Any], rollouts: dict[Key, Any], steps: dict[Key, torch.Tensor]) -> None:
    """In the plan's order, so that a new run adds lines and changes none before it in its family."""
    place = {family: k for k, family in enumerate(FAMILIES)}  # families of one's own come last
    keys = sorted(runs, key=lambda key: (place.get(runs[key]["family"], len(place)), key))
    with (folder / "runs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, (*RUN_FIELDS, *NUMBERS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(runs[key] for key in keys)
    with (folder / "rollouts.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("run", "rollout", *ROLLOUT_FIELDS, *STEP_FIELDS[:4]))
        for k, key in enumerate(keys):
            lines.writerows((k, rollout, *(f"{x:.5g}" for x in row)) for rollout, row in enumerate(rollouts[key]))
    kept = [k for k, key in enumerate(keys) if key in steps]
    none = torch.empty(0, *SHAPE, len(STEP_FIELDS), dtype=torch.half)
    tensors = {
        "lines": torch.tensor(kept, dtype=torch.long),
        "steps": torch.stack([steps[keys[k]].half() for k in kept]) if kept else none,
    }
    path = folder / "steps.safetensors"
    save_file(tensors, path, {"fields": " ".join(STEP_FIELDS)})  # one entry: several are written in any order
    path.chmod(0o644)  # as other files, where safetensors lets nobody else read it


if __name__ == "__main__":
    main()
