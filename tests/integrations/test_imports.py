"""No engine is imported unless it is asked for, and a missing one is named with the extra that brings it."""

import subprocess
import sys

import pytest

ENGINES = {"trl", "verl", "prime_rl", "datasets", "accelerate", "ray", "tensordict"}


def python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_core_lm_optim_and_integrations_import_without_any_engine():
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in sorted(ENGINES))
    modules = "hmpo_lib, hmpo_lib.lm, hmpo_lib.optim, hmpo_lib.integrations"
    assert python(f"import sys\n{blocked}import {modules}").returncode == 0


def test_core_lm_optim_and_integrations_load_no_engine_that_is_there():
    # (transformers looks for accelerate itself.)
    program = "import hmpo_lib.lm, hmpo_lib.optim, hmpo_lib.integrations, sys; print(*sys.modules)"
    assert not (ENGINES - {"accelerate"}) & set(python(program).stdout.split())


@pytest.mark.parametrize(("module", "says"), [("trl", "hmpo-lib[trl]"), ("verl", "hmpo-lib[verl]")])
def test_a_missing_engine_is_named_with_its_extra(module, says):
    found = python(f"import sys; sys.modules[{module!r}] = None; import hmpo_lib.integrations.{module}")
    assert found.returncode == 1
    assert f"ModuleNotFoundError: hmpo_lib.integrations.{module} needs {module}".lower() in found.stderr.lower()
    assert says in found.stderr


def test_verls_self_test_without_verl_names_the_extra():
    program = "import runpy, sys; sys.modules['verl'] = None\n"
    program += "runpy.run_module('hmpo_lib.integrations.verl', run_name='__main__')"
    found = python(program)
    assert found.returncode == 1
    assert "error: hmpo_lib.integrations.verl needs verl" in found.stderr


def test_a_trl_without_the_hook_is_named_with_its_version():
    pytest.importorskip("trl", reason="needs TRL: run `make oracles`", exc_type=ImportError)
    found = python("import trl; del trl.GRPOTrainer._compute_loss; import hmpo_lib.integrations.trl")
    assert "ImportError: GRPOTrainer of TRL" in found.stderr
    assert "has no _compute_loss" in found.stderr
