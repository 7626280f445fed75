"""Binder, Colab and the development container start from the pins of `make lab`, and their scripts do what it does."""

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
BINDER = ROOT / ".binder"
WAYS_IN = (ROOT / "docs" / "ways_in.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

posix = pytest.mark.skipif(os.name == "nt", reason="a pod and a container have bash")


def cpu_index():
    """The index of torch without CUDA, as the README names it."""
    return re.search(r"TORCH_INDEX=(\S+)", (ROOT / "README.md").read_text(encoding="utf-8"))[1]


def test_binder_installs_the_lock_and_the_cpu_build_of_torch():
    ours, conda = (yaml.safe_load((folder / "environment.yml").read_text()) for folder in (BINDER, ROOT))
    *packages, pip = ours["dependencies"]
    assert packages == conda["dependencies"][:-1]
    assert pip == {"pip": [f"--extra-index-url {cpu_index()}", "-r ../requirements.lock", "-e .."]}
    for line in pip["pip"][1:]:
        assert (BINDER / line.split()[1]).exists()


@posix
def test_post_build_installs_the_gym_and_puts_the_two_settings_of_jupyterlab_where_make_puts_them(tmp_path):
    pod = tmp_path / "pod"
    venv.create(pod, with_pip=False)
    (tmp_path / "pip.py").write_text("import sys\nprint('pip', *sys.argv[1:])\n")
    environment = {**os.environ, "PATH": f"{pod / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        ["bash", str(BINDER / "postBuild")], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["pip", "install", "--no-cache-dir", "--no-deps", "-r", "requirements-gym.lock"]
    copies = re.findall(r"@cp (\S+) \.venv/(\S+)", MAKEFILE)
    assert len(copies) == 2
    for source, target in copies:
        assert (pod / target).read_bytes() == (ROOT / source).read_bytes()


@posix
def test_start_sets_how_threads_wait_before_the_command_that_it_starts(tmp_path):
    (tmp_path / "python").symlink_to(sys.executable)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    environment |= {"PATH": f"{Path(sys.executable).parent}:{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = ["bash", str(BINDER / "start"), "bash", "-c", 'echo "$GOMP_SPINCOUNT and $1"', "-", "two words"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "1000 and two words\n"


def test_binder_starts_what_a_pod_can_start():
    for name in ("postBuild", "start"):
        assert (BINDER / name).read_text().startswith("#!/usr/bin/env bash\n")


def test_the_container_installs_what_make_installs_with_the_cpu_build_of_torch():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    program, target = container["postCreateCommand"].split()
    assert program == "make"
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)
    assert container["containerEnv"] == {"TORCH_INDEX": cpu_index()}
    for name in container["customizations"]["codespaces"]["openFiles"]:
        assert (ROOT / name).is_file()


def test_the_first_cell_for_colab_asks_for_an_extra_that_is_there_and_leaves_colabs_own_packages_alone():
    cell = re.search(r"```python\n%pip install -q \"(.*?)\"\n```", WAYS_IN)[1]
    asked = Requirement(cell)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert asked.name == "hmpo-lib"
    (extra,) = asked.extras
    installed = {Requirement(line).name for line in extras[extra]}
    # Colab's page talks with the versions that it has itself.
    assert installed.isdisjoint({"jupyterlab", "ipykernel", "ipywidgets", "ipython"})


NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_of_a_notebook_opens_no_file_beside_it_so_that_it_runs_alone(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not re.search(r"""["'](?:\.\./|data/|docs/|notebooks/)""", "".join(cell["source"]))


def test_every_way_of_the_table_has_its_section_and_says_what_was_tried():
    ways = re.findall(r"^\| \[[^]]+\]\(#([\w-]+)\)", WAYS_IN, re.MULTILINE)
    sections = [section.partition("\n") for section in WAYS_IN.split("\n## ")[1:]]
    assert ways == [head.lower().replace(" ", "-") for head, _, _ in sections]
    for head, _, text in sections:
        assert re.search(r"Tried:|untried", text), head
