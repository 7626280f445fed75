"""Says in one line whether this machine is ready for the notebooks. Exit code 0 if it is, 1 if it is not.

    make check          on Windows: .venv\\Scripts\\python tools\\check_ready.py

Runs under any Python 3 and before anything is installed: nothing here needs more than the standard library until
every package has been found.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11), (3, 14))  # torch 2.13.0 exists for these
MEMORY_GB = 4  # a notebook's kernel takes about 1 GB, the browser the rest
# What an install takes with pip's cache (measured: 5.6 + 3.0 GB with the CUDA libraries that torch brings on Linux,
# 1.9 + 0.5 GB without).
DISK_GB = {"Linux": 9}
DISK_GB_ELSEWHERE = 3
SPARE_DISK_GB = 0.5  # what the notebooks write, with room
GB = 1e9


def pinned(lock: str) -> dict[str, set[str]]:
    """The versions that the lock file allows for each package; "" among them: some machines need it not at all."""
    pins: dict[str, set[str]] = {}
    for name, version, marker in re.findall(r"^([\w.-]+)==([^\s;]+)(\s*;.*)?$", lock, flags=re.MULTILINE):
        versions = pins.setdefault(name, {""} if marker else set())
        versions.add(version)
    return pins


def wrong_packages(pins: dict[str, set[str]]) -> list[str]:
    """What differs from the pins, a phrase for each package."""
    from importlib import metadata  # not in Python 3.7, which must get as far as the line that says so

    wrong = []
    for name, versions in pins.items():
        try:
            # A local part names the build, such as torch's +cpu, not another version.
            installed = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            installed = ""
        if installed not in versions:
            wrong.append(f"{name} is {installed or 'not installed'} (pinned: {' or '.join(sorted(versions - {''}))})")
    return wrong


def memory_gb() -> float | None:
    """The machine's memory, or None where the standard library cannot tell (Windows)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB
    except (AttributeError, ValueError):
        return None


def why_not_ready() -> str | None:
    """The first reason, and what to do about it; None when there is none."""
    lowest, highest = PYTHONS
    if not lowest <= sys.version_info[:2] <= highest:
        return (
            f"this is Python {platform.python_version()}, but 3.11 to 3.14 is needed: install one, or name another, "
            "as in: make PYTHON=python3.12 lab"
        )
    memory = memory_gb()
    if memory is not None and memory < MEMORY_GB:
        return f"this machine has {memory:.1f} GB of memory, but {MEMORY_GB} GB are needed: use a larger one"

    pins = pinned((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    wrong = wrong_packages(pins)
    disk = shutil.disk_usage(ROOT).free / GB
    needed = DISK_GB.get(platform.system(), DISK_GB_ELSEWHERE) if wrong else SPARE_DISK_GB
    if disk < needed:
        return f"{disk:.1f} GB of disk are free in {ROOT}, but {needed} GB are needed: make room"
    if len(wrong) > len(pins) / 2:
        return f"{len(wrong)} of {len(pins)} packages are not installed as pinned in {sys.prefix}: run make lab"
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return f"{wrong[0]}{more}: run make -B install, or pip install -r requirements.lock"

    # The proof of the rest is to use it: torch loads, hmpo_lib is installed, the base model has its checksum.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars: this command prints one line
            from hmpo_lib.lm import load_base_model

            load_base_model()
    except (ImportError, OSError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def main() -> int:
    """Prints the line."""
    reason = why_not_ready()
    if reason:
        print(f"not ready: {reason}")
        return 1
    print(f"ready: Python {platform.python_version()}, packages as pinned, base model loads with the right checksum")
    return 0


if __name__ == "__main__":
    sys.exit(main())
