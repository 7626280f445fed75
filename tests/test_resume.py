"""A run that is killed, at any moment and any number of times, ends as if nothing had happened."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("run_server.py")


class Server:
    """The warm process, and the little language that it speaks."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def run(self, **job) -> tuple[int, float]:
        """Runs a job to its end or its kill; returns its exit code, −9 where it was killed, and its seconds."""
        line = json.dumps({name: str(value) if isinstance(value, Path) else value for name, value in job.items()})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return tuple(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def server():
    started = Server()
    yield started
    started.close()


@pytest.fixture(scope="module")
def unbroken(server, tmp_path_factory):
    """Each run as it is without a crash: its folder and how long it took, in seconds."""
    runs = {}

    def run(name):
        if name not in runs:
            folder = tmp_path_factory.mktemp("unbroken") / name
            log = folder.with_suffix(".log")
            code, seconds = server.run(run=name, folder=folder, log=log)
            assert code == 0, log.read_text()
            runs[name] = folder, seconds
        return runs[name]

    return run


def contents(folder):
    """Every file of a run, by name: its bytes, or its rows without the column of seconds."""
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    rows = list(csv.DictReader(files["metrics.csv"].decode().splitlines()))
    return files | {"metrics.csv": [{k: v for k, v in row.items() if k != "seconds"} for row in rows]}


def assert_same(folder, expected):
    got, wanted = contents(folder), contents(expected)
    assert got.keys() == wanted.keys()
    assert [name for name in got if got[name] != wanted[name]] == []


@pytest.mark.parametrize("name", ["adamw", "muonclip", "exponent"])
def test_the_runs_that_are_killed_do_learn_clip_and_move_their_exponent(unbroken, name):
    rows = contents(unbroken(name)[0])["metrics.csv"]
    assert len(rows) == (3 if name == "exponent" else 4)
    assert sum(float(row["gradient_norm"]) > 0 for row in rows) >= 2
    assert name != "muonclip" or float(rows[0]["heads_clipped"]) > 0
    assert name != "exponent" or rows[-1]["p"] != rows[0]["p"]


@pytest.mark.parametrize(("name", "kills"), [("adamw", 5), ("muonclip", 4), ("exponent", 4)])
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(server, unbroken, tmp_path, name, kills):
    expected, seconds = unbroken(name)
    random_number, killed, lives = random.Random(name), 0, 0
    while killed < kills:
        lives += 1
        job = {"run": name, "folder": tmp_path / f"{lives}", "log": tmp_path / "log"}
        code, total, longest = -signal.SIGKILL, 0.0, seconds
        while code == -signal.SIGKILL:
            code, lasted = server.run(**job, kill_after=random_number.uniform(0, longest))
            killed += code == -signal.SIGKILL
            total += lasted
            longest *= 1.2  # or a run whose first checkpoint lies beyond `seconds` would be killed before it for ever
        assert code == 0, job["log"].read_text()
        assert_same(job["folder"], expected)
        seconds = min(seconds, total)  # the machine may have been busier while the unbroken run was timed


def test_a_run_killed_before_any_change_of_the_disk_ends_as_one_that_was_not(server, unbroken, tmp_path):
    expected, _ = unbroken("exponent")  # three checkpoints: the third is the first to have an old one removed
    calls, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        calls += 1
        job = {"run": "exponent", "folder": tmp_path / f"{calls}", "log": tmp_path / "log"}
        code, _ = server.run(**job, kill_before=calls)
        assert code == 0 or server.run(**job)[0] == 0, job["log"].read_text()
        assert_same(job["folder"], expected)
    assert code == 0, job["log"].read_text()
    assert calls > 40
