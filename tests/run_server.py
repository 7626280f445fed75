"""A warm process that forks a fine-tuning run for each line of its stdin, and answers how it ended.

Started as a script by test_resume.py. A fork costs milliseconds where a new interpreter with torch costs seconds, so
that a run can be killed many times. A job is JSON: ``run`` (an entry of RUNS), ``folder``, ``log`` and one
of ``kill_after``, seconds, or ``kill_before``: just before the n-th call, from 1, that changes what is on the disk. The
answer is the exit code, −9 where it was killed, and the seconds that it ran.
"""

import itertools
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hmpo_lib import LearnableExponent, Method, Objective, cli
from hmpo_lib.lm import Checkpoints, FineTuneConfig, fine_tune, load_base_model
from hmpo_lib.lm.run_folder import RunFolder

DISK_CALLS = ("fsync", "rename", "replace", "unlink", "rmdir")
SIZES = {"rollouts": 4, "prompts": 2, "group_size": 4, "minibatches": 2, "max_new_tokens": 8, "learning_rate": 1e-3}


def by_command(folder: Path, *options: str) -> None:
    """The run as the user starts it, and resumes it."""
    if (folder / "config.json").exists():
        arguments = ["resume", str(folder)]
    else:
        sizes = [part for name, value in SIZES.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        arguments = ["fine-tune", "--out", str(folder), "--checkpoint-every", "1", *sizes, *options]
    cli.cli.main(arguments, standalone_mode=False)


def by_library(folder: Path) -> None:
    """A run with a method of its own, which no file can name: a learnable exponent."""
    exponent = LearnableExponent(start=0.5, learning_rate=0.1)
    method = Method(Objective(None, "token", (0.8, 1.2)), "test", p_schedule=exponent)
    config = FineTuneConfig(method=method, kl_coefficient=0.1, warmup_steps=4, **{**SIZES, "rollouts": 3})
    run, checkpoints = RunFolder(folder), Checkpoints(folder / "checkpoints", every=1)
    policy, tokenizer = load_base_model()
    start = checkpoints.latest() if checkpoints.all() else None
    records = fine_tune(policy, tokenizer, config, checkpoints=checkpoints, resume_from=start)
    if run.config.exists():
        run.rewind(int(start.name) if start else 0)
    else:
        run.create(config.settings() | {"task": "sums"})
    for _ in run.write_rows(records, config):
        pass
    run.finish(policy, tokenizer)


RUNS: dict[str, Callable[[Path], None]] = {
    "adamw": lambda folder: by_command(folder, "--method", "gspo", "--policy-lag", "1"),
    "muonclip": lambda folder: by_command(
        folder, "--method", "hmpo", "--optimizer", "muonclip", "--qk-clip-threshold", "5", "--epochs", "2"
    ),
    "exponent": by_library,
}


def kill_before(call: int) -> None:
    """Lets the process kill itself just before its n-th change of the disk, from 1."""
    counter = itertools.count(1)

    def counted(function: Callable) -> Callable:
        def wrapped(*args, **options):
            if next(counter) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)

        return wrapped

    for name in DISK_CALLS:
        setattr(os, name, counted(getattr(os, name)))


def work(job: dict) -> None:
    """Runs a job in the forked process, with its output in a file, and ends the process."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if "kill_before" in job:
        kill_before(job["kill_before"])
    RUNS[job["run"]](Path(job["folder"]))
    os._exit(0)


def wait(pid: int, kill_after: float) -> tuple[int, float]:
    """Waits for a process, which is killed when its time is over; its exit code and its seconds."""
    started = time.monotonic()
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended:
        if time.monotonic() - started >= kill_after:
            os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, 0)
        else:
            time.sleep(0.001)
            ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status), time.monotonic() - started


def main() -> None:
    """Forks a job a line."""
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                work(job)
            finally:
                os._exit(1)
        print(json.dumps(wait(pid, job.get("kill_after", math.inf))), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
