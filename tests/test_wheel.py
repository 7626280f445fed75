"""The wheel in an empty environment. It installs from the network: only where HMPO_TEST_WHEEL=1 is set, as in CI."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(os.environ.get("HMPO_TEST_WHEEL") != "1", reason="needs the network: HMPO_TEST_WHEEL=1")

CORE = """
import torch, hmpo_lib
from hmpo_lib import METHODS, batch_mean, policy_loss
objective = METHODS["hmpo"].step_objective(0.0, torch.zeros(1, 3), torch.ones(1, 3), torch.ones(1))
new = torch.tensor([[0.95, 1.0, 1.05]]).log()
print(float(policy_loss(new, torch.zeros(1, 3), torch.ones(1), torch.ones(1, 3), objective).loss))
print(hmpo_lib.__file__)
"""

MODEL = """
import torch
from hmpo_lib.lm import load_base_model
model, tokenizer = load_base_model()
with torch.no_grad():
    print(model(tokenizer("1+2=", return_tensors="pt").input_ids).logits.isfinite().all().item())
"""


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """The Python of an environment with the wheel and torch, and a folder that is no checkout."""
    folder = tmp_path_factory.mktemp("empty")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install(python, next(folder.glob("*.whl")))
    return python, folder


def install(python, what):
    """Installs into another environment, torch without CUDA where an index for it is named."""
    index = os.environ.get("TORCH_INDEX")
    extra = ["--extra-index-url", index] if index else []
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, what, *extra], check=True)


def output(python, program, folder):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    run = subprocess.run(
        [python, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_the_core_works_with_torch_alone(empty):
    python, folder = empty
    loss, place = output(python, CORE, folder)
    assert float(loss) == pytest.approx(-3 / (1 / 0.95 + 1 + 1 / 1.05), rel=1e-6)
    assert Path(place).is_relative_to(folder)
    with pytest.raises(subprocess.CalledProcessError):
        output(python, "import transformers", folder)


def test_the_base_model_is_in_the_wheel_and_loads_with_the_extra_lm(empty):
    python, folder = empty
    install(python, f"{next(folder.glob('*.whl'))}[lm]")
    assert output(python, MODEL, folder) == ["True"]
