"""Makes the runs of docs/evidence_plan.md: python tools/record_evidence.py RUNS [--only FAMILY ...] [--until 17:00].

RUNS is a folder for the finished runs, a file each, outside the checkout or one that git ignores, such as
runs/evidence: each record says by a + whether its commit was changed. What is in data/results/evidence/ is not made
again. Several of these may work on one folder at a time; each takes the next run that nobody has made or is making.
SIGTERM lets the present run end first. tools/pack_evidence.py copies what there is into data/results/evidence/.
"""

import argparse
import datetime
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from hmpo_lib.teach.what_the_evidence_says.cells import Cell
from hmpo_lib.teach.what_the_evidence_says.plan import FAMILIES, ON_OTHER_MACHINES
from hmpo_lib.teach.what_the_evidence_says.records import RECORDED, Evidence, load_evidence
from hmpo_lib.teach.what_the_evidence_says.runs import ROLLOUT_FIELDS, STEP_FIELDS, RolloutNumbers, take


def git(*arguments: str) -> str:
    """What git says of this checkout."""
    return subprocess.run(
        ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def machine(device: str) -> str:
    """What a record says of where it was made."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


def record(
    family: str, cell: Cell, seed: int, path: Path, commit: str, *, device: str, larger_model: Path | None
) -> None:
    """Makes one run and writes its file, whole or not at all; a run that broke off says why and keeps what it had."""
    began, cpu = time.time(), time.process_time()
    rollouts: list[RolloutNumbers] = []
    held_out: tuple[float, float] | None = None
    status = "finished"
    try:
        for numbers in take(cell, seed, device=device, larger_model=larger_model):
            if isinstance(numbers, RolloutNumbers):
                rollouts.append(numbers)
            else:
                held_out = numbers
    except FloatingPointError as error:
        status = str(error)
    run: dict[str, Any] = {
        "cell": cell.name,
        "seed": seed,
        "family": family,
        "status": status,
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": machine(device),
        "began": datetime.datetime.fromtimestamp(began, datetime.UTC).isoformat(timespec="seconds"),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.time() - began, 2),
        "held_out": held_out,
        "rollout_fields": ROLLOUT_FIELDS,
        "rollouts": [[float(f"{x:.6g}") for x in numbers.rollout] for numbers in rollouts],
        "step_fields": STEP_FIELDS,
        "steps": [[[float(f"{x:.4g}") for x in step] for step in numbers.steps] for numbers in rollouts],
    }
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(run), encoding="utf-8")
    part.replace(path)


def file_of(folder: Path, cell: Cell, seed: int) -> Path:
    """Where a run's record is."""
    return folder / f"{cell.name},seed={seed}.json"


def main() -> None:
    """Takes run after run until none is left or the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", nargs="+", choices=FAMILIES)
    parser.add_argument("--until", type=datetime.time.fromisoformat, help="HH:MM of today after which no run is begun")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...; the plan says which family needs which")
    parser.add_argument("--larger-model", type=Path, help="the folder of tools/make_larger_model.py")
    arguments = parser.parse_args()
    if {*ON_OTHER_MACHINES} & {*(arguments.only or ())} and not (
        arguments.larger_model and arguments.larger_model.is_dir()
    ):
        parser.error("the families of the larger model need --larger-model: the folder of tools/make_larger_model.py")
    try:
        commit = git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except subprocess.CalledProcessError as error:
        parser.error(f"each record names its commit: expected a git checkout of your own; git says: {error.stderr}")
    recorded = load_evidence() if RECORDED.is_dir() else Evidence([])
    arguments.runs.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    asked_to_stop = []
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(True))
    families = arguments.only or [family for family in FAMILIES if family not in ON_OTHER_MACHINES]
    for family, (cell, seed) in ((name, run) for name in families for run in FAMILIES[name]):
        path = file_of(arguments.runs, cell, seed)
        if path.is_file() or recorded.has(cell, [seed]):
            continue
        if asked_to_stop or (arguments.until and datetime.datetime.now().time() >= arguments.until):
            sys.exit("stopped before the plan's end")
        with path.with_suffix(".claim").open("w") as claim:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if not path.is_file():  # else another process ended it meanwhile
                record(family, cell, seed, path, commit, device=arguments.device, larger_model=arguments.larger_model)
                print(time.strftime("%H:%M:%S"), family, path.stem, flush=True)
    print(
        f"nothing of {', '.join(families)} is left to make: it is in {arguments.runs} or in {RECORDED}, or being made"
    )


if __name__ == "__main__":
    main()
