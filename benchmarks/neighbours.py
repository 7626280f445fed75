"""How long does a rollout take beside others? With and without the settings of `hmpo_start`, in turns.

    python -m benchmarks.neighbours                 some minutes, on a machine at rest; a quota needs root on Linux
    python -m benchmarks.neighbours --undisturbed   on a busy machine: others wait during a turn (root, Linux)

Three runs at once on a machine's cores, one run alone, and one in a quota of one processor. A figure is the median of
the rounds' ratios, with the least and the largest. A turn is a rollout with its updates (benchmarks/lm has the sizes);
of three at once it ends with the last. The processes live on from turn to turn; the first turn of each warms up.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from hmpo_start import WAITING_NAMES

AT_ONCE = 3
# Contestant -> the options of Python and the variables with which it runs.
Contestants = dict[str, tuple[list[str], dict[str, str]]]
CONTESTANTS: Contestants = {
    "torch's own": ([], {}),
    "hmpo_start": (["-m", "hmpo_start"], {}),
    "one thread": ([], {"OMP_NUM_THREADS": "1"}),
}
PERIOD = 100_000  # of a quota, in microseconds


class Runs(NamedTuple):
    """A contestant's processes: those without a quota, and the one in a quota."""

    free: list[subprocess.Popen]
    limited: subprocess.Popen


def work(seed: int) -> None:
    """A process of a contestant: a rollout for each line that it reads, and its seconds."""
    from benchmarks.lm.report import CONFIG
    from hmpo_lib.lm import fine_tune, load_base_model

    records = fine_tune(*load_base_model(), dataclasses.replace(CONFIG, rollouts=10**6, seed=seed))
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(CONFIG.minibatches):
            next(records)
        print(time.perf_counter() - start, flush=True)


class ControlGroup:
    """A control group of Linux, version 1 or 2; with a quota of so many processors, if a number is given."""

    VERSION_1 = Path("/sys/fs/cgroup/cpu")

    def __init__(self, name: str, *, processes: int, processors: int | None = None) -> None:
        self.processes = processes
        parent = self.VERSION_1 if self.VERSION_1.exists() else Path("/sys/fs/cgroup")
        self.folder = parent / f"hmpo-{name}-{os.getpid()}"
        self.folder.mkdir()
        try:
            if processors is not None and self.VERSION_1.exists():
                self.write("cpu.cfs_period_us", PERIOD)
                self.write("cpu.cfs_quota_us", processors * PERIOD)
            elif processors is not None:
                self.write("cpu.max", f"{processors * PERIOD} {PERIOD}")
        except OSError:  # version 2, and its parent gives no processor time to share out
            self.close()
            raise

    def write(self, file: str, value: int | str) -> None:
        """Sets one of the group's values."""
        (self.folder / file).write_text(str(value), encoding="ascii")

    def enter(self) -> None:
        """Moves this process into the group."""
        self.write("cgroup.procs", os.getpid())

    def prefer(self, before_others: bool) -> None:
        """Gives the group nearly all of the processors' time, or as much as its processes would have outside."""
        if self.VERSION_1.exists():
            self.write("cpu.shares", 262_144 if before_others else 1_024 * self.processes)
        else:
            self.write("cpu.weight", 10_000 if before_others else 100 * self.processes)

    def close(self) -> None:
        """Removes the group, which nobody is in any more."""
        self.folder.rmdir()


@contextmanager
def process(
    how: tuple[list[str], dict[str, str]], seed: int, enter: Callable[[], None] | None
) -> Iterator[subprocess.Popen]:
    """A contestant's process, which enters its control group before anything else."""
    options, variables = how
    clean = {key: value for key, value in os.environ.items() if key not in {*WAITING_NAMES, "OMP_NUM_THREADS"}}
    command = [sys.executable, *(options or ["-m"]), "benchmarks.neighbours", "--worker", str(seed)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, env=clean | variables, preexec_fn=enter, **pipes) as started:
        try:
            yield started
        finally:
            started.stdin.close()
            started.wait()


def turn(processes: list[subprocess.Popen], group: ControlGroup | None = None, *, at_rest: bool = False) -> float:
    """Seconds until each of the processes has done a rollout.

    Args:
        processes: of one contestant.
        group: the one that they are in, if it is to come before all others for the turn.
        at_rest: a thread that wakes finds a core at once, as on a machine at rest. Only real-time priority gives that,
            and a quota does not hold for it.
    """
    with ExitStack() as stack:
        if group:
            group.prefer(True)
            stack.callback(group.prefer, False)
            if at_rest:
                if (group.folder / "cpu.rt_runtime_us").exists():
                    group.write("cpu.rt_runtime_us", 800_000)  # a second
                stack.enter_context(real_time(processes[0]))
        for each in processes:
            print(file=each.stdin, flush=True)
        seconds = max(float(each.stdout.readline()) for each in processes)
    if group:
        time.sleep(1.5 * seconds)  # give the others back what was taken
    return seconds


@contextmanager
def real_time(of: subprocess.Popen) -> Iterator[None]:
    """Lets the threads of a process come before those of all others."""
    for policy in (os.SCHED_FIFO, os.SCHED_OTHER):
        for thread in os.listdir(f"/proc/{of.pid}/task"):
            os.sched_setscheduler(int(thread), policy, os.sched_param(int(policy == os.SCHED_FIFO)))
        if policy == os.SCHED_FIFO:
            yield


def one_processor() -> None:
    """Restricts this process by affinity, where no quota can be had."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])


def ratios(above: list[float], below: list[float]) -> str:
    """A cell of the report: the ratios of two rows of turns."""
    found = [a / b for a, b in zip(above, below, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def report(contestants: Contestants, rounds: int, *, undisturbed: bool) -> Iterator[str]:
    """The lines of the report: a table, a contestant a row."""
    with ExitStack() as stack:
        try:
            limit = ControlGroup("quota", processes=len(contestants), processors=1)
            stack.callback(limit.close)
        except OSError as error:
            if undisturbed:
                raise
            yield f"no control group can be made here ({error}), so one processor by affinity takes the quota's place"
            limit = None
        whole = ControlGroup("whole", processes=AT_ONCE * len(contestants)) if undisturbed else None
        if whole:
            stack.callback(whole.close)
            whole.prefer(False)
        runs = {
            name: Runs(
                [stack.enter_context(process(how, seed, whole and whole.enter)) for seed in range(AT_ONCE)],
                stack.enter_context(process(how, AT_ONCE, limit.enter if limit else one_processor)),
            )
            for name, how in contestants.items()
        }
        for own in runs.values():
            for each in (*own.free, own.limited):
                turn([each])
        yield f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {rounds} rounds: median (least to largest)"
        alone, at_once, limited = ({name: [] for name in runs} for _ in range(3))
        for index in range(rounds):
            order = list(runs.items())
            for name, own in reversed(order) if index % 2 else order:
                alone[name].append(turn(own.free[:1], whole, at_rest=True))
            for name, own in reversed(order) if index % 2 else order:
                at_once[name].append(turn(own.free, whole))
                limited[name].append(turn([own.limited], limit if undisturbed else None))
    yield f"| | alone, over torch's own | {AT_ONCE} at once, over alone | quota of one processor, over one thread |"
    yield "|---|---|---|---|"
    for name in contestants:
        cells = (
            (alone[name], alone["torch's own"]),
            (at_once[name], alone[name]),
            (limited[name], limited["one thread"]),
        )
        yield f"| {name} | {' | '.join(ratios(*cell) for cell in cells)} |"
    yield f"seconds alone: {', '.join(f'{name} {statistics.median(row):.2f}' for name, row in alone.items())}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.neighbours", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--undisturbed", action="store_true", help="keep other work off the cores during a turn")
    parser.add_argument(
        "--also", action="append", default=[], metavar="NAME=VALUE", help="one more row: this variable set"
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments.worker)
    else:
        also = {setting: ([], dict([setting.split("=", 1)])) for setting in arguments.also}
        for line in report(CONTESTANTS | also, arguments.rounds, undisturbed=arguments.undisturbed):
            print(line, flush=True)
