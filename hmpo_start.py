"""Starts a program with threads that share a machine's cores well; these settings count only before torch is loaded.

    python -m hmpo_start jupyterlab --port 9999     runs a module, as `python -m jupyterlab --port 9999` would
    python -m hmpo_start                            prints the settings, for a shell: export $(python -m hmpo_start)

The command ``hmpo`` and ``make lab`` start here. Needs the standard library only, and so no part of ``hmpo_lib``, whose
import loads torch.

torch computes with a team of OpenMP threads. On Linux whoever is done first waits for the others without giving its
core away, for milliseconds. Alone that is fastest. Where others want the cores too, the threads that are waited for get
none. And a team as large as the machine is too large where a quota gives a process less, as in a container.
"""

import math
import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

# How often a waiting thread of GNU's OpenMP looks before it gives its core away; 300,000 times by default. A thousand
# is about as fast alone (docs/results.md has what was measured). The OpenMP of LLVM and Intel, which torch has on macOS
# and Windows, ignores it and needs no setting: its threads offer their core to others each time they look.
WAITING = {"GOMP_SPINCOUNT": "1000"}
# Whoever has set one of these has decided how threads wait.
WAITING_NAMES = {*WAITING, "OMP_WAIT_POLICY"}


def settings(environment: Mapping[str, str], *, root: Path = Path("/")) -> dict[str, str]:
    """The environment variables to add, none of them decided by the user before.

    Args:
        environment: the variables that are there.
        root: of the file system; tests bring one of their own.

    Returns:
        How threads wait and, only where the process may not use all processors, the number of threads and of workers.

    Example:
        >>> settings({"OMP_NUM_THREADS": "1", "PYTEST_XDIST_AUTO_NUM_WORKERS": "1"})
        {'GOMP_SPINCOUNT': '1000'}
        >>> settings({"OMP_NUM_THREADS": "1", "PYTEST_XDIST_AUTO_NUM_WORKERS": "1", "OMP_WAIT_POLICY": "ACTIVE"})
        {}
    """
    added = {} if WAITING_NAMES & set(environment) else dict(WAITING)
    usable, quota = usable_processors(), cpu_quota(root)
    processors = usable if quota is None else min(usable, math.ceil(quota))
    if processors < usable:  # OpenMP knows of affinity, but of no quota
        added["OMP_NUM_THREADS"] = str(processors)
    if processors < (os.cpu_count() or 1):  # `pytest -n auto` knows of neither
        added["PYTEST_XDIST_AUTO_NUM_WORKERS"] = str(processors)
    return {name: value for name, value in added.items() if name not in environment}


def usable_processors() -> int:
    """How many processors the process may run on: all, or those of its affinity (taskset, cpuset)."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The processors' worth of time that Linux's control groups give this process; None without a limit.

    The least of its group's limit and those of the groups around it, in version 1 and 2 (cgroups(7)).
    """
    limits = [limit for folder in _cpu_groups(root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _cpu_groups(root: Path) -> Iterator[Path]:
    """The folders of the process's group and of those around it that can be seen from here."""
    try:
        memberships = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    own = {}  # version -> path of the process's group in its hierarchy; lines as "4:cpu,cpuacct:/a/b" and "0::/a/b"
    for line in memberships:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            own["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            own["cgroup"] = path
    for line in mounts:  # "31 23 0:28 ROOT POINT OPTIONS [OPTIONAL...] - TYPE SOURCE SUPER_OPTIONS" (proc(5))
        before, _, after = line.partition(" - ")
        mounted, point = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        if kind not in own or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        group = PurePosixPath(own[kind])
        # A container sees its own group as the root of the mount. What lies outside the mount cannot be read.
        inside = group.relative_to(mounted) if group.is_relative_to(mounted) else PurePosixPath()
        for shown in (inside, *inside.parents):
            yield root / point.lstrip("/") / shown


def _limit(folder: Path) -> float | None:
    """Quota over period of one group, both in microseconds."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
    except OSError:  # the root group of version 2 has no limit to read
        return None
    return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)


def hmpo() -> None:
    """The console script."""
    os.environ.update(settings(os.environ))
    from hmpo_lib.cli import main

    main()


if __name__ == "__main__":
    added = settings(os.environ)
    if len(sys.argv) == 1:
        print(*(f"{name}={value}" for name, value in added.items()), sep="\n")
    else:
        os.environ.update(added)
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
