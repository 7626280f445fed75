"""The settings of threads: what is read of quotas, what is added, and that it takes effect where torch is loaded."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import hmpo_start

ROOT = Path(__file__).resolve().parent.parent
SET_BY_START = {*hmpo_start.WAITING_NAMES, "OMP_NUM_THREADS", "PYTEST_XDIST_AUTO_NUM_WORKERS"}


def file_system(root: Path, cgroup: str, mountinfo: str, **files: str) -> Path:
    """A root with the files of /proc that name the groups, and files of the groups by their path."""
    contents = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw,relatime shared:10 - cgroup cgroup rw,cpuset\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
V1_GROUPS = "9:name=systemd:/\n4:cpuset:/other\n3:cpu,cpuacct:/class/student\n0::/\n"


def v2(group: str, content: str) -> dict[str, str]:
    return {f"sys/fs/cgroup/{group}cpu.max": content}


def v1(group: str, quota: int, period: int = 100_000) -> dict[str, str]:
    folder = f"sys/fs/cgroup/cpu,cpuacct/{group}"
    return {f"{folder}cpu.cfs_quota_us": f"{quota}\n", f"{folder}cpu.cfs_period_us": f"{period}\n"}


# --- quotas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "quota"),
    [
        pytest.param("0::/\n", V2, v2("", "150000 100000\n"), 1.5, id="version 2, a container's own root"),
        pytest.param("0::/\n", V2, v2("", "max 100000\n"), None, id="version 2, max"),
        pytest.param("0::/a/b\n", V2, v2("a/b/", "400000 100000") | v2("a/", "50000 25000"), 2, id="the one around it"),
        pytest.param("0::/a/b\n", V2, v2("a/b/", "max 100000"), None, id="version 2, no file at the root"),
        pytest.param("0::/c\n", V2, v2("c/", "20000 100000"), 0.2, id="less than one processor"),
        pytest.param(V1_GROUPS, V1, v1("class/student/", -1) | v1("class/", 300_000), 3, id="version 1, one around it"),
        pytest.param(V1_GROUPS, V1, v1("class/student/", 50_000, 20_000), 2.5, id="version 1, its own"),
        pytest.param(V1_GROUPS, V1, v1("class/student/", -1) | v1("", -1), None, id="version 1, none"),
        # Docker without a namespace of its own for groups: the path is the host's, the mount begins at it.
        pytest.param(
            "3:cpu,cpuacct:/docker/77\n",
            "32 31 0:29 /docker/77 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
            v1("", 100_000),
            1,
            id="version 1, container under the host's path",
        ),
        pytest.param("3:cpu:/elsewhere\n", V1, v1("", 200_000), 2, id="only the root can be seen"),
        pytest.param("", "", {}, None, id="no groups"),
    ],
)
def test_quota_is_the_least_of_the_group_and_those_around_it(tmp_path, cgroup, mountinfo, files, quota):
    assert hmpo_start.cpu_quota(file_system(tmp_path, cgroup, mountinfo, **files)) == quota


def test_a_system_without_control_groups_has_no_quota(tmp_path):
    assert hmpo_start.cpu_quota(tmp_path) is None


# --- what is added ---------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch) -> Callable[[int, int], None]:
    """Sets how many processors the machine has and how many of them the process may run on."""

    def set_numbers(processors: int, usable: int) -> None:
        monkeypatch.setattr(hmpo_start.os, "cpu_count", lambda: processors)
        monkeypatch.setattr(hmpo_start, "usable_processors", lambda: usable)

    return set_numbers


@pytest.mark.parametrize(
    ("quota", "processors", "usable", "threads", "workers"),
    [
        pytest.param("100000", 64, 64, "1", "1", id="a container with one"),
        pytest.param("150000", 64, 64, "2", "2", id="part of one counts as one"),
        pytest.param("10000", 2, 2, "1", "1", id="less than one"),
        pytest.param("max", 64, 64, None, None, id="no quota"),
        pytest.param("200000", 2, 2, None, None, id="all there are"),
        pytest.param("6400000", 4, 4, None, None, id="more than there are"),
        pytest.param("400000", 64, 2, None, "2", id="affinity allows less: OpenMP sees that itself"),
        pytest.param("100000", 64, 2, "1", "1", id="the quota allows less than the affinity"),
    ],
)
def test_threads_and_workers_are_named_only_where_their_programs_would_take_more(
    tmp_path, machine, quota, processors, usable, threads, workers
):
    machine(processors, usable)
    added = hmpo_start.settings({}, root=file_system(tmp_path, "0::/\n", V2, **v2("", f"{quota} 100000\n")))
    expected = {"OMP_NUM_THREADS": threads, "PYTEST_XDIST_AUTO_NUM_WORKERS": workers} | hmpo_start.WAITING
    assert added == {name: value for name, value in expected.items() if value is not None}


@pytest.mark.parametrize("name", sorted(hmpo_start.WAITING_NAMES))
def test_whoever_has_said_how_threads_wait_is_left_alone(tmp_path, machine, name):
    machine(2, 2)
    assert hmpo_start.settings({name: "anything"}, root=tmp_path) == {}


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "PYTEST_XDIST_AUTO_NUM_WORKERS"])
def test_a_number_of_threads_or_workers_of_ones_own_is_left_alone(tmp_path, machine, name):
    machine(64, 64)
    root = file_system(tmp_path, "0::/\n", V2, **v2("", "200000 100000\n"))
    assert hmpo_start.settings({}, root=root).keys() - hmpo_start.settings({name: "5"}, root=root).keys() == {name}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_usable_processors_are_those_of_the_affinity():
    program = "import hmpo_start, os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    assert run("-c", f"{program}; print(hmpo_start.usable_processors())") == "1"


def test_conda_and_the_readme_name_the_same_values():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["variables"] == hmpo_start.WAITING
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, value in hmpo_start.WAITING.items():
        assert re.findall(rf"export {name}=(\w+)", readme) == [value]


# --- where it takes effect -------------------------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> str:
    """What a fresh Python writes, without any setting of threads but those given."""
    inherited = {name: value for name, value in os.environ.items() if name not in SET_BY_START}
    command = [sys.executable, *arguments]
    outcome = subprocess.run(command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=True)
    return (outcome.stdout + outcome.stderr).strip()


def test_needs_the_standard_library_only():
    tree = ast.parse((ROOT / "hmpo_start.py").read_text(encoding="utf-8"))
    at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name if isinstance(node, ast.Import) else node.module for node in at_import for alias in node.names}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP there")
@pytest.mark.parametrize("own", [{}, {"GOMP_SPINCOUNT": "77"}], ids=["ours", "the user's own"])
def test_the_command_loads_torch_with_the_settings(own):
    # OMP_DISPLAY_ENV has the OpenMP runtime itself say what it has read, in the moment in which torch loads it.
    before = "import sys, hmpo_start; assert 'torch' not in sys.modules"
    program = f"{before}; sys.argv = ['hmpo', '--version']; hmpo_start.hmpo()"
    report = run("-c", program, OMP_DISPLAY_ENV="VERBOSE", OMP_NUM_THREADS="1", **own)
    assert re.findall(r"(GOMP_SPINCOUNT) *= *'(\d+)'", report) == list((own or hmpo_start.WAITING).items()), report


def test_a_module_runs_as_with_python_m_and_its_children_inherit_the_settings(tmp_path):
    (tmp_path / "child.py").write_text(
        "import json, os, subprocess, sys\n"
        "assert __name__ == '__main__'\n"
        "code = 'import json, os; print(json.dumps(dict(os.environ)))'\n"
        "seen = json.loads(subprocess.run([sys.executable, '-c', code], capture_output=True, check=True).stdout)\n"
        "print(json.dumps([sys.argv[1:], seen]))\n",
        encoding="utf-8",
    )
    arguments, seen = json.loads(
        run("-m", "hmpo_start", "child", "--port", "9", PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    )
    assert arguments == ["--port", "9"]
    assert {name: seen[name] for name in hmpo_start.WAITING} == hmpo_start.WAITING


def test_without_a_module_it_prints_what_it_would_set():
    lines = run("-m", "hmpo_start", OMP_NUM_THREADS="1").splitlines()
    assert [line for line in lines if not line.startswith("PYTEST")] == [
        f"{name}={value}" for name, value in hmpo_start.WAITING.items()
    ]


def test_a_plain_import_of_the_library_leaves_the_environment_to_whoever_imports_it():
    program = "import os; before = dict(os.environ); import hmpo_lib; print(dict(os.environ) == before)"
    assert run("-c", program) == "True"
