"""Every exercise can be solved, failed and found; each notebook's stubs are those of its exercises."""

import ast
import importlib
import importlib.util
import inspect
import itertools
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from hmpo_lib import group_advantages, teach
from hmpo_lib.teach import check
from hmpo_lib.teach.checks import EXERCISES, Exercise, same

from ..scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
# Importing the package of a notebook registers its exercises.
MODULES = sorted(
    room.name
    for room in pkgutil.iter_modules(teach.__path__)
    if room.ispkg and importlib.util.find_spec(f"hmpo_lib.teach.{room.name}.exercises")
)
for name in MODULES:
    importlib.import_module(f"hmpo_lib.teach.{name}")
NOTEBOOKS = {path.stem.partition("_")[2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
DEEPER = {path.stem: path for path in sorted((ROOT / "notebooks" / "deeper").glob("*.ipynb"))}
PAGES = NOTEBOOKS | DEEPER

each_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: f"{e.notebook}-{e.name}")


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def checked(source):
    """The name that a cell's last line checks."""
    found = re.fullmatch(r"check\((\w+)\)", source.rstrip().rpartition("\n")[2])
    return found and found[1]


def run(source, name):
    """The function that a source defines, as a notebook would: alone."""
    names = {}
    exec(source, names)
    return names[name]


# --- the exercises ---------------------------------------------------------------------------------------------------


@each_exercise
def test_solution_is_right(exercise):
    verdict = check(exercise.solution)
    assert verdict.right
    assert verdict.text == f"✓ Right. {exercise.insight}"


@each_exercise
def test_stub_is_friendly_and_offers_the_solution(exercise):
    stub = run(exercise.cell.removesuffix(f"check({exercise.name})"), exercise.name)
    verdict = check(stub)
    assert verdict.text.startswith("Not written yet")
    assert verdict.solution == exercise.solution_source


@each_exercise
def test_each_mistake_is_recognised(exercise):
    assert len(exercise.mistakes) >= 2
    for hint, mistake in exercise.mistakes.items():
        assert exercise.check(mistake).text == f"✗ Not yet. {hint}"


@each_exercise
def test_no_two_mistakes_and_no_mistake_and_the_solution_are_the_same_on_all_probes(exercise):
    functions = [exercise.solution, *exercise.mistakes.values()]
    for one, other in itertools.combinations(functions, 2):
        assert not same(exercise.results(one), exercise.results(other))


@each_exercise
def test_constant_is_no_solution(exercise):
    for constant in exercise.results(exercise.solution):
        assert not exercise.check(lambda *arguments, constant=constant: constant).right


@each_exercise
def test_words_are_sentences(exercise):
    task = inspect.getdoc(exercise.solution)
    for text in (task, exercise.insight, *exercise.mistakes):
        assert text[-1] in ".?"
        assert text[0] == "`" or text[0].isupper()


def test_names_are_unique_in_the_collection():
    modules = [importlib.import_module(f"hmpo_lib.teach.{name}.exercises") for name in MODULES]
    defined = [value for module in modules for value in vars(module).values() if isinstance(value, Exercise)]
    # Other tests of the same process may have registered some of their own.
    assert len(defined) == sum(exercise.solution.__module__.endswith(".exercises") for exercise in EXERCISES.values())


def test_notebooks_without_a_language_model_load_none():
    names = ["three_means", "mean_iterations", "importance_ratios", "policy_losses", "bandits"]
    imports = ", ".join(f"hmpo_lib.teach.{name}" for name in names)
    program = f"import sys, {imports}; print('transformers' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


# --- the notebooks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_notebook_of_the_module_holds_its_exercises_in_order_each_once(module):
    assert module in PAGES, f"no notebook NN_{module}.ipynb: name the module as the notebook, without its number"
    own = [exercise.name for exercise in EXERCISES.values() if exercise.notebook == module]
    assert own
    assert [name for name in map(checked, code_cells(PAGES[module])) if name] == own


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name != "start_here"])
def test_notebook_has_a_module_of_exercises(name):
    assert name in MODULES


@pytest.mark.parametrize("path", PAGES.values(), ids=lambda path: path.stem)
def test_stub_in_the_notebook_is_the_one_that_the_solution_gives(path):
    for source in code_cells(path):
        if name := checked(source):
            assert source == EXERCISES[name].cell, f"run: python tools/write_stubs.py notebooks/{path.name}"


@pytest.mark.parametrize("path", PAGES.values(), ids=lambda path: path.stem)
def test_solutions_shown_in_a_notebook_use_only_names_that_it_has(path):
    mentioned = set()
    for source in code_cells(path):
        if name := checked(source):
            solution = EXERCISES[name].solution
            assert {name for name in solution.__code__.co_names if name in solution.__globals__} <= mentioned
        # The notebook runs, so each name that a cell mentions at its top level is defined after it.
        mentioned |= set(compile(source, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT).co_names)


# --- the tool --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tool():
    return load_script("tools/write_stubs.py")


def test_tool_leaves_a_notebook_with_its_stubs_as_it_is(tool, tmp_path):
    path = tmp_path / "notebook.ipynb"
    for notebook in NOTEBOOKS.values():
        shutil.copy(notebook, path)
        tool.write_stubs(path)
        assert path.read_bytes() == notebook.read_bytes()


def test_tool_writes_a_stub_over_whatever_stands_above_the_check(tool, tmp_path):
    path = tmp_path / "notebook.ipynb"
    exercise = EXERCISES["turning_point"]
    notebook = json.loads(NOTEBOOKS["three_means"].read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if checked("".join(cell["source"])):
            cell["source"] = f"def {exercise.name}(r):\n    return 3\n\n\ncheck({exercise.name})\n"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    tool.write_stubs(path)
    assert [source for source in code_cells(path) if checked(source)] == [exercise.cell] * 3


def test_tool_refuses_a_check_of_what_is_no_exercise(tool, tmp_path):
    path = tmp_path / "notebook.ipynb"
    cell = {
        "cell_type": "code",
        "id": "a",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": "check(x)",
    }
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    with pytest.raises(SystemExit, match="no exercise is called x"):
        tool.write_stubs(path)


# --- what the insights of the first notebooks say --------------------------------------------------------------------

OUTLIER, SIX = [0.1, 1.0, 1.0, 1.0, 1.0], [0.3, 0.9, 1.1, 1.2, 1.3, 1.5]


def test_harmonic_mean_of_the_outlier_is_scipys_and_nearer_to_the_outlier():
    value = EXERCISES["harmonic_mean"].results(EXERCISES["harmonic_mean"].solution)[0]
    assert value == pytest.approx(stats.hmean(OUTLIER))
    assert f"it is {value:.3f}:" in EXERCISES["harmonic_mean"].insight
    assert value - 0.1 < 1 - value


def test_pushes_are_what_autograd_gives():
    for d, p, advantage in EXERCISES["pushes"].probes:
        leaf = d.clone().requires_grad_()
        (advantage * (leaf * p).exp().mean().pow(1 / p) if p else advantage * leaf.mean().exp()).backward()
        torch.testing.assert_close(EXERCISES["pushes"].solution(d, p, advantage), leaf.grad)


def test_verdict_on_the_six_ratios_turns_at_the_root_that_scipy_finds():
    root = optimize.brentq(lambda p: stats.pmean(SIX, p) - 1, 0.1, 1)
    assert EXERCISES["turning_point"].results(EXERCISES["turning_point"].solution)[0] == pytest.approx(root)
    assert f"p = {root:.3f}" in EXERCISES["turning_point"].insight


def test_advantage_of_work_shrinks_to_nothing_as_its_share_grows():
    solution = EXERCISES["advantage_of_work"].solution
    advantages = [solution(share, 0.9, 0.4) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert (np.diff(advantages) < 0).all()
    assert advantages[-1] == 0


def test_advantage_of_work_is_what_group_advantages_give_in_a_large_group():
    rewards = torch.tensor([1.0] * 270 + [0.0] * 30 + [1.0] * 280 + [0.0] * 420)  # 30 % worked, 90 % and 40 % right
    advantages = group_advantages(rewards, 1000, scale="none")
    solution = EXERCISES["advantage_of_work"].solution
    assert solution(0.3, 0.9, 0.4) == pytest.approx(advantages[:300].mean().item())
