"""What is installed, what imports what, and what is committed."""

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import hmpo_lib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hmpo_lib"

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(name: str) -> list[Requirement]:
    """The lines of a lock."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


LOCK, GYM_LOCK = pins("requirements.lock"), pins("requirements-gym.lock")


# --- the lock --------------------------------------------------------------------------------------------------------


def test_conda_installs_the_lock_itself_and_nothing_beside_it():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *own, pip = conda["dependencies"]
    # Any package that conda brought itself could differ from its pin. Dependencies of `-e .` are pinned in the lock.
    assert [entry.split("=")[0] for entry in own] == ["python", "pip"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}


def test_every_line_of_the_lock_is_an_exact_pin_without_a_url():
    for pin in LOCK + GYM_LOCK:
        assert pin.url is None, pin
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin


def test_lock_of_the_gym_completes_the_other_but_for_what_needs_a_c_compiler():
    assert not {pin.name for pin in GYM_LOCK} & {pin.name for pin in LOCK}
    needed, found = {"reasoning-gym"}, set()
    while needed:
        name = needed.pop()
        found.add(name)
        # Not what pip would have installed for another system or an extra.
        asked = [Requirement(line) for line in importlib.metadata.requires(name) or []] if name != "pycosat" else []
        names = {pin.name.replace("_", "-").lower() for pin in asked if pin.marker is None or pin.marker.evaluate()}
        needed |= names - found
    assert found - {pin.name for pin in LOCK} == {pin.name for pin in GYM_LOCK} | {"pycosat"}


def test_lock_leaves_the_cuda_libraries_to_torch():
    assert [pin.name for pin in LOCK if pin.name.startswith(("nvidia", "cuda", "triton"))] == []


def test_lock_pins_torch_2_13_0():
    assert [str(pin) for pin in LOCK if pin.name == "torch"] == ["torch==2.13.0"]


def named_requirements():
    extras = PYPROJECT["project"]["optional-dependencies"]
    named = [extras[name] for name in ("lm", "gym", "lab", "test")]
    lines = [line for group in (PYPROJECT["project"]["dependencies"], *named) for line in group]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != "hmpo-lib"]


@pytest.mark.parametrize("requirement", named_requirements(), ids=lambda requirement: requirement.name)
def test_lock_pins_a_version_that_pyproject_allows(requirement):
    found = [pin for pin in LOCK + GYM_LOCK if pin.name == requirement.name]
    assert found, f"{requirement.name} is in neither lock: run make lock"
    for pin in found:
        (specifier,) = pin.specifier
        assert specifier.version in requirement.specifier, f"{pin} is not {requirement}: run make lock"


# --- the package -----------------------------------------------------------------------------------------------------


def test_the_version_is_written_once_and_the_citation_has_it():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == hmpo_lib.__version__


def test_types_are_marked_as_such_and_every_exported_name_is_there():
    assert (PACKAGE / "py.typed").is_file()
    assert [name for name in hmpo_lib.__all__ if not hasattr(hmpo_lib, name)] == []
    assert hmpo_lib.__all__ == sorted(hmpo_lib.__all__, key=lambda name: (not name.isupper(), name))


# --- imports ---------------------------------------------------------------------------------------------------------


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_core_loads_torch_and_nothing_else():
    added = modules_after("import hmpo_lib") - modules_after("import torch") - sys.stdlib_module_names
    assert added == {"hmpo_lib"}


# Each layer: which others it may know. `core` is the flat modules; cli.py stands above everything. `evaluation` is a
# flat module that takes its statistics from scipy, and only when it is asked for them.
LAYERS = {
    "core": {"evaluation"},
    "evaluation": set(),
    "optim": set(),
    "lm": {"core", "optim"},
    "integrations": {"core", "optim", "lm"},
    "teach": {"core", "evaluation", "optim", "lm"},
    "cli": {"core", "optim", "lm", "integrations"},
}
# What the lower layers may import of others' packages; the rest say so in the extras of pyproject.toml.
OTHERS = {"core": {"torch"}, "evaluation": {"torch", "scipy"}, "optim": {"torch", "transformers"}}


def test_every_layer_that_is_guarded_is_there():
    found = {layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in PACKAGE.rglob("*.py")}
    assert found == set(LAYERS)


def layer_of(module: str) -> str:
    """The layer of a dotted module name under hmpo_lib."""
    second = module.split(".")[1] if "." in module else "core"
    return second if second in LAYERS else "core"


def imported(source: str) -> set[str]:
    """Every module that a source file imports, at its top, in a function or for type checking only."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import: write the module's full name"
            # `from hmpo_lib import lm` imports the layer, not a name of the core.
            names |= {f"hmpo_lib.{alias.name}" for alias in node.names} if node.module == "hmpo_lib" else {node.module}
    return names


def layer_violations(layer: str, source: str) -> set[str]:
    """The imports that a layer's source may not have."""
    forbidden = set()
    for name in imported(source):
        top = name.split(".")[0]
        if top == "hmpo_lib":
            allowed = layer_of(name) in LAYERS[layer] | {layer}
        else:
            allowed = layer not in OTHERS or top in OTHERS[layer] | sys.stdlib_module_names
        if not allowed:
            forbidden.add(name)
    return forbidden


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_the_layers_below_it(path):
    layer = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert layer_violations(layer, path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("core", "import hmpo_lib.lm"),
        ("core", "from hmpo_lib import teach"),
        ("core", "def f():\n    from hmpo_lib.optim.muon import x"),
        ("core", "import numpy"),
        ("optim", "from hmpo_lib.lm.model import x"),
        ("optim", "from hmpo_lib.means import power_mean"),
        ("lm", "from hmpo_lib.teach import Panel"),
        ("teach", "from hmpo_lib.cli import main"),
    ],
)
def test_an_import_of_a_higher_layer_is_found(layer, source):
    assert len(layer_violations(layer, source)) == 1


# --- what is committed -----------------------------------------------------------------------------------------------


def committed_files() -> list[Path]:
    """The files that git has or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_committed_file_is_a_pickle_or_over_5_mb():
    pickles = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz"}
    assert [path for path in committed_files() if path.suffix in pickles or path.stat().st_size > 5_000_000] == []


@pytest.mark.parametrize("name", [".github/workflows/ci.yml", "environment.yml", "CITATION.cff"])
def test_yaml_file_parses(name):
    assert isinstance(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")), dict)
