"""A class: two students' kernels on one machine, one read-only folder whose name has spaces and umlauts."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from hmpo_lib.lm import FineTuneConfig, fine_tune, load_base_model

ROOT = Path(__file__).resolve().parent.parent
NAME = "Übungen der Gruppe 3/hmpo für alle"
LESSON_PATH = "notebooks/lesson.ipynb"
PARTS = ("hmpo_lib", "hmpo_start.py", "data", "notebooks", "tools", "requirements.lock")

# What notebook 08 does, as small as it goes: the model of the folder is trained, and a panel drawn.
LESSON = """
from pathlib import Path

import hmpo_lib
from hmpo_lib.lm import FineTuneConfig, fine_tune, load_base_model
from hmpo_lib.teach.start_here import start_panel

config = FineTuneConfig(method="hmpo", rollouts=2, prompts=2, group_size=4, minibatches=2, max_new_tokens=8)
losses = [record.metrics["loss"] for record in fine_tune(*load_base_model(), config)]
start_panel().static_bundle()
try:
    Path("written.txt").write_text("by a student")
    writable = True
except OSError:
    writable = False
print(losses, Path(hmpo_lib.__file__).parent.parent.name, writable)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no read-only folders of this kind")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of what a course hands out, without a single write permission."""
    folder = tmp_path_factory.mktemp("course") / NAME
    folder.mkdir(parents=True)
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_*"))
        else:
            shutil.copy(ROOT / part, folder)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LESSON)])
    nbformat.write(notebook, folder / LESSON_PATH)
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(path.stat().st_mode & ~0o222)
    yield folder
    for path in everything:  # else pytest could not remove it
        path.chmod(path.stat().st_mode | 0o200)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def as_a_student():
    """What stands before a command so that permissions hold for it: root may write everywhere, unless it is barred."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv that bars it")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]


def start_lesson(folder, home):
    """One student's kernel at work on the lesson."""
    home.mkdir()
    command = [
        *as_a_student(),
        sys.executable,
        "-m",
        "nbconvert",
        "--to=notebook",
        "--execute",
        "--stdout",
        LESSON_PATH,
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )


def test_two_kernels_in_a_read_only_folder_with_spaces_and_umlauts_get_the_numbers_of_one_alone(folder, tmp_path):
    before = contents(folder)
    students = [start_lesson(folder, tmp_path / name) for name in ("Jörg", "Zoë B")]
    answers = [student.communicate(timeout=300) for student in students]
    config = FineTuneConfig(method="hmpo", rollouts=2, prompts=2, group_size=4, minibatches=2, max_new_tokens=8)
    losses = [record.metrics["loss"] for record in fine_tune(*load_base_model(), config)]
    assert len(losses) == 4
    for notebook, errors in answers:
        assert notebook, errors
        (output,) = json.loads(notebook)["cells"][0]["outputs"]
        assert "".join(output["text"]) == f"{losses} {folder.name} False\n"
    assert contents(folder) == before


def test_a_read_only_folder_with_spaces_and_umlauts_says_that_it_is_ready(folder):
    run = subprocess.run(
        [*as_a_student(), sys.executable, str(folder / "tools" / "check_ready.py")],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        encoding="utf-8",
    )
    assert run.stdout.startswith("ready: "), run.stdout + run.stderr
